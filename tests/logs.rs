//! A log that a program's standard error goes to, and that others write to as well.

mod tool;

use std::fs::{self, File};
use std::process::Command;

use tool::{STDOUT, Tool, lines, printed};

/// Runs a job whose process dies three times, and tells of it.
const LOOP: &str = r#"
for attempt in 1 2 3; do
  echo "attempt $attempt"
  before=$(stat -c %s out)
  "$@" >> out &
  while [ $(stat -c %s out) -le $before ]; do sleep 0.01; done
  kill -9 $!
  wait $! 2> wait.txt
  echo "attempt $attempt died" >&2
done
"$@" >> out
echo "ended"
"#;

#[test]
fn what_others_log_stays_when_the_program_has_logged_nothing() {
    let shell = |tool: &Tool, append: bool, output: &str| {
        tool.wat("lines.wasm", &lines(300, 4_000_000, STDOUT));
        fs::write(tool.path("out"), "").unwrap();
        let run = ["run", "--job", "x", "--every", "50ms", "--output", output, "lines.wasm"];
        let inner = tool.command(&run);
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
        assert!(fs::read_to_string(tool.path("out")).unwrap() == printed(300), "{what}");
    }
}
