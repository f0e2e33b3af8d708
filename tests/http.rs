//! A small web server on this machine, for tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    #[cfg_attr(not(feature = "telemetry"), allow(dead_code, reason = "only the tests of traces read it"))]
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The requested range of `length` bytes; `None` if all are requested.
    pub(crate) fn range(&self, length: usize) -> Option<Range<usize>> {
        let (start, end) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let start = start.parse().unwrap_or_else(|_| length - end.parse::<usize>().unwrap_or(length));
        Some(start..end.parse::<usize>().map_or(length, |end| (end + 1).min(length)).max(start))
    }
}

/// A response.
pub(crate) struct Response {
    pub(crate) status: &'static str,
    /// Whole lines, without their ends.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn empty(status: &'static str) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The requested range of a file.
    pub(crate) fn part(request: &Request, bytes: &[u8], mut headers: Vec<String>) -> Self {
        let Some(part) = request.range(bytes.len()) else {
            return Self { status: "200 OK", headers, body: bytes.to_vec() };
        };
        headers.push(format!("Content-Range: bytes {}-{}/{}", part.start, part.end - 1, bytes.len()));
        Self { status: "206 Partial Content", headers, body: bytes[part].to_vec() }
    }
}

/// Answers until the test ends, each client on its own thread; returns the port.
pub(crate) fn serve(answer: impl Fn(&Request) -> Response + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            // The server ignores a client that closes the connection.
            std::thread::spawn(move || drop(talk(&stream, &answer)));
        }
    });
    port
}

fn talk(mut stream: &TcpStream, answer: &impl Fn(&Request) -> Response) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request { method, path, headers, body };
    let Response { status, headers, body } = answer(&request);
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for line in headers {
        head += &format!("{line}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&body)?;
    }
    // The client must close first, or the last bytes could be lost.
    stream.shutdown(std::net::Shutdown::Write)?;
    let _ = stream.read(&mut [0; 64])?;
    Ok(())
}
