//! A local S3 server: moto's, installed for the test. In: a variable that allows it, because it downloads a Python package. Out: a bucket, and
//! the environment variables with which programs find it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The name of the bucket.
pub(crate) const BUCKET: &str = "lake";

/// The server; it is stopped when this value is dropped.
pub(crate) struct Moto {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Moto {
    /// Installs and starts it; `None`, with a note on standard error, if a variable does not enable such tests.
    pub(crate) fn start(variable: &str) -> Option<Self> {
        if std::env::var(variable).as_deref() != Ok("1") {
            eprintln!("skipped: set {variable}=1 to test on S3 (installs moto's server into a temporary folder)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let environment = folder.path().join("venv");
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        succeed(Command::new(environment.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "moto[server,s3]",
        ]));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.path().join("server.log")).unwrap();
        let process = Command::new(environment.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { process, port, folder };
        for _ in 0..100 {
            if server.create_bucket().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let log = server.folder.path().join("server.log");
        panic!("the server does not answer: {}", std::fs::read_to_string(log).unwrap());
    }

    /// The environment variables of a program that uses the server.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    fn create_bucket(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request =
            format!("PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
