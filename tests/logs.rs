//! A log that a program's standard error goes to, and that others write to as well.

mod tool;

use std::fs::{self, File};
use std::process::Command;

use tool::Tool;

/// Runs a job whose process dies three times, and tells of it. It copies its input, which is a FIFO that stays
/// open, so each time it is killed while it waits for more of it, and never ends before.
const LOOP: &str = r#"
mkfifo in
exec 3<> in
for attempt in 1 2 3; do
  echo "attempt $attempt"
  before=$(stat -c %s out)
  "$@" < in >> out 3>&- &
  echo "line $attempt" >&3
  while [ $(stat -c %s out) -le $before ]; do kill -0 $! || exit; sleep 0.01; done
  sleep 0.2
  kill -9 $!
  wait $! 2> wait.txt
  echo "attempt $attempt died" >&2
done
"$@" < in >> out 3>&- &
echo "the last line" >&3
exec 3>&-
wait $! || exit
echo "ended"
"#;

#[test]
fn what_others_log_stays_when_the_program_has_logged_nothing() {
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/guests/wasm/streams.wasm");
    let shell = |tool: &Tool, append: bool, output: &str| {
        fs::write(tool.path("out"), "").unwrap();
        let run = ["run", "--job", "x", "--every", "50ms", "--input-from", "now", "--output", output];
        let inner = tool.command(&[&run[..], &[guest, "copy", "1000"]].concat());
        let log = File::options().create(true).write(true).append(append).open(tool.path("log")).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", LOOP, "bash"]).arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(tool.path("")).stdout(log.try_clone().unwrap()).stderr(log);
        assert!(command.status().unwrap().success());
    };
    for (append, output) in [(false, "at-once"), (true, "at-once"), (true, "exactly-once")] {
        let tool = Tool::new();
        shell(&tool, append, output);
        let log: String = (1..=3).map(|n| format!("attempt {n}\nattempt {n} died\n")).collect();
        let what = format!("{output}, O_APPEND: {append}");
        let found = fs::read_to_string(tool.path("log")).unwrap();
        let (ours, others): (Vec<_>, Vec<_>) =
            found.lines().partition(|line| line.starts_with("wasm-ckpt: "));
        assert_eq!(others.join("\n"), log + "ended", "{what}");
        assert_eq!(ours.iter().filter(|line| line.contains("going on from")).count(), 3, "{what}: {found}");
        fs::write(tool.path("all"), "line 1\nline 2\nline 3\nthe last line\n").unwrap();
        let all = File::open(tool.path("all")).unwrap();
        let straight = tool.command(&["run", "-q", guest, "copy", "1000"]).stdin(all).output().unwrap();
        assert_eq!(fs::read(tool.path("out")).unwrap(), straight.stdout, "{what}");
    }
}
