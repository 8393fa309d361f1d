//! Real servers for stores that are services, begun by the scripts in `tests/servers`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a script ends with where it cannot get the server: nothing is known of ours then.
const CANNOT_BE_HAD: i32 = 77;

/// A server with its data, which is gone when this is dropped.
pub struct Server {
    script: Child,
    name: &'static str,
    dir: PathBuf,
    /// The URL of a store on it.
    pub url: String,
    /// What else a client needs to know.
    pub variables: Vec<(String, String)>,
}

impl Server {
    /// Starts `tests/servers/NAME.sh`, with its data in this directory; nothing where it cannot be had.
    pub fn start(name: &'static str, dir: &Path) -> Option<Self> {
        Self::start_with(name, dir, &[])
    }

    /// The same with these variables for the script.
    pub fn start_with(name: &'static str, dir: &Path, env: &[(&str, &str)]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/servers/{name}.sh"));
        let mut command = Command::new(script);
        command.arg(dir).envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut script = command.process_group(0).spawn().unwrap();
        let mut variables = vec![];
        for line in BufReader::new(script.stdout.take().unwrap()).lines().map_while(Result::ok) {
            match line.split_once('=') {
                Some((name, value)) => variables.push((name.to_string(), value.to_string())),
                None => return Some(Self { script, name, dir: dir.to_path_buf(), url: line, variables }),
            }
        }
        let code = script.wait().unwrap().code();
        assert_eq!(code, Some(CANNOT_BE_HAD), "the server of tests/servers/{name}.sh does not start");
        // Not by `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this needs a server that cannot be had here: {name}");
        None
    }

    pub fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// To all of its processes.
    pub fn signal(&self, name: &str) {
        let group = format!("-{}", self.script.id());
        assert!(Command::new("kill").args([name, "--", &group]).status().unwrap().success());
    }

    /// Kills it, in whatever it is doing.
    pub fn kill(&mut self) {
        if let Ok(None) = self.script.try_wait() {
            self.signal("-KILL");
            let _ = self.script.wait();
        }
    }

    /// Starts it again on its data, at the same address.
    pub fn restart(&mut self) {
        self.kill();
        let url = self.url.clone();
        *self = Self::start(self.name, &self.dir.clone()).expect("it has started before");
        assert_eq!(self.url, url);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
