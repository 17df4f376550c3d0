//! Wire scripts: send these messages, expect those. The bytes are made and read here by hand, apart from the server's own codec.
//!
//! A script under tests/wire is a list of exchanges:
//!
//! ```text
//! send Parse "s" "SELECT $1::int4 + 1" 23
//! send Sync
//! ----
//! ParseComplete
//! ReadyForQuery I
//! ```
//!
//! What is sent goes out in one piece; the answer is read up to as many `ReadyForQuery` as are expected; where there are none, as many
//! messages as are expected or up to the end of the connection. `startup`, `raw HEX` and `close` are for connections that begin or end badly.
//! With ACCEPT=1 in the environment the answers are written into the scripts instead of compared.
//!
//! Scripts of what PostgreSQL does, too, are played to a PostgreSQL where one is installed; an exchange under `onlyif stratagem` has another
//! answer there, and with ACCEPT_POSTGRES=1 is put under it. Of errors and notices the SQLSTATE is the same, the words are the server's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::postgres::Postgres;
use crate::running::{PATIENCE, Running};

/// Scripts of what PostgreSQL has, too.
const COMMON: [&str; 6] = ["copy", "cursors", "extended", "portals", "simple", "transactions"];

#[test]
fn the_wire_scripts_hold() {
    let mut failures = Vec::new();
    for script in scripts() {
        let server = Running::start();
        let text = std::fs::read_to_string(&script).expect("a readable script");
        let played = play(server.port, &text, false);
        if std::env::var_os("ACCEPT").is_some() {
            std::fs::write(&script, &played).expect("a writable script");
        } else if played != text {
            failures.push(format!("{}:\n{}", script.display(), difference(&text, &played)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_wire_scripts_hold_of_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let mut failures = Vec::new();
    for script in scripts().into_iter().filter(|script| COMMON.iter().any(|name| script.file_stem().is_some_and(|stem| stem == *name))) {
        postgres.empty();
        let text = std::fs::read_to_string(&script).expect("a readable script");
        let (expected, played) = (without_words(&text), without_words(&play(postgres.port, &text, true)));
        if std::env::var_os("ACCEPT_POSTGRES").is_some() {
            std::fs::write(&script, marked(&text, &expected, &played)).expect("a writable script");
        } else if played != expected {
            failures.push(format!("{}:\n{}", script.display(), difference(&expected, &played)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn scripts() -> Vec<PathBuf> {
    let mut scripts: Vec<_> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire"))
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "wire"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    scripts
}

/// A script with a mark at every exchange that was another one elsewhere.
fn marked(text: &str, expected: &str, played: &str) -> String {
    let exchanges = text.split("\n\n").zip(expected.split("\n\n").zip(played.split("\n\n")));
    let mark = |(exchange, (expected, played)): (&str, (&str, &str))| match exchange.find("send ") {
        Some(at) if expected.trim() != played.trim() => format!("{}onlyif stratagem\n{}", &exchange[..at], &exchange[at..]),
        _ => exchange.to_owned(),
    };
    exchanges.map(mark).collect::<Vec<_>>().join("\n\n")
}

/// A script whose errors and notices say no more than their SQLSTATE.
fn without_words(script: &str) -> String {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [kind @ ("ErrorResponse" | "NoticeResponse"), severity, state, ..] => format!("{kind} {severity} {state}"),
        _ => line.to_owned(),
    };
    script.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn difference(expected: &str, got: &str) -> String {
    let mut lines = Vec::new();
    let (mut e, mut g) = (expected.lines(), got.lines());
    loop {
        match (e.next(), g.next()) {
            (None, None) => return lines.join("\n"),
            (a, b) if a == b => lines.push(format!("  {}", a.unwrap_or_default())),
            (a, b) => {
                lines.extend(a.map(|a| format!("- {a}")));
                lines.extend(b.map(|b| format!("+ {b}")));
            }
        }
    }
}

/// Plays a script and gives it back with the answers that came.
fn play(port: u16, text: &str, elsewhere: bool) -> String {
    let mut wire = Wire::open(port);
    let mut played = String::new();
    let mut lines = text.lines().peekable();
    let mut begun = false;
    while let Some(line) = lines.next() {
        played.push_str(line);
        played.push('\n');
        let words = words(line);
        match words.first().map(String::as_str) {
            Some("onlyif") if elsewhere => {
                for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                    played.push_str(line);
                    played.push('\n');
                }
                played.push('\n');
            }
            Some("send") => {
                if !begun {
                    wire.log_in();
                    begun = true;
                }
                let message = message(&words[1..]);
                wire.out.extend(message);
            }
            Some("startup") => {
                begun = true;
                wire.out.extend(startup(&words[1..]));
            }
            Some("raw") => {
                begun = true;
                wire.out.extend(bytes(&words[1..].concat()));
            }
            Some("----") => {
                let (mut readies, mut expected) = (0, Vec::new());
                while let Some(line) = lines.next_if(|l| !l.is_empty()) {
                    readies += usize::from(line.starts_with("ReadyForQuery"));
                    expected.push(line);
                }
                let until = match expected.last() {
                    Some(last) if readies == 0 && *last != "(closed)" => Until::Answers(expected.len()),
                    _ if readies == 0 => Until::Closed,
                    _ => Until::Ready(readies),
                };
                for answer in wire.exchange(until) {
                    played.push_str(&answer);
                    played.push('\n');
                }
                if wire.closed {
                    wire = Wire::open(port);
                    begun = false;
                }
            }
            _ => {}
        }
    }
    played
}

/// Words of a line; a quoted word may hold blanks, `\n` and `\t`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '"' {
            let mut word = String::new();
            while let Some(c) = characters.next().filter(|c| *c != '"') {
                word.push(match c {
                    '\\' => match characters.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        other => other.unwrap_or('\\'),
                    },
                    c => c,
                });
            }
            words.push(word);
        } else if !character.is_whitespace() {
            let mut word = String::from(character);
            while let Some(c) = characters.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
            words.push(word);
        }
    }
    words
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits")).collect()
}

fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], (body.len() as u32 + 4).to_be_bytes().as_slice(), body].concat()
}

/// `startup MAJOR MINOR name value ...`
fn startup(words: &[String]) -> Vec<u8> {
    let number = |i: usize| words[i].parse::<u16>().expect("a number").to_be_bytes();
    let mut body = [number(0), number(1)].concat();
    words[2..].iter().for_each(|w| body.extend(text(w)));
    body.push(0);
    [(body.len() as u32 + 4).to_be_bytes().as_slice(), &body].concat()
}

/// The bytes of a message of a logged-in client.
fn message(words: &[String]) -> Vec<u8> {
    let argument = |i: usize| words.get(i).map(String::as_str).unwrap_or_default();
    let count = |n: usize| (n as u16).to_be_bytes();
    match words[0].as_str() {
        "Query" => framed(b'Q', &text(argument(1))),
        "Parse" => {
            let types = words.get(3..).unwrap_or_default();
            let mut body = [text(argument(1)), text(argument(2)), count(types.len()).to_vec()].concat();
            types.iter().for_each(|t| body.extend(t.parse::<u32>().expect("a type").to_be_bytes()));
            framed(b'P', &body)
        }
        // Bind PORTAL STATEMENT RESULT_FORMAT VALUE ...; values are text, `null` is NULL
        "Bind" => {
            let values = words.get(4..).unwrap_or_default();
            let mut body = [text(argument(1)), text(argument(2)), count(0).to_vec(), count(values.len()).to_vec()].concat();
            for value in values {
                if value == "null" {
                    body.extend((-1i32).to_be_bytes());
                } else {
                    body.extend((value.len() as u32).to_be_bytes());
                    body.extend(value.as_bytes());
                }
            }
            body.extend(count(1));
            body.extend(argument(3).parse::<u16>().expect("a format").to_be_bytes());
            framed(b'B', &body)
        }
        "Describe" => framed(b'D', &[argument(1).as_bytes(), &text(argument(2))].concat()),
        "Execute" => framed(b'E', &[text(argument(1)), argument(2).parse::<u32>().expect("rows").to_be_bytes().to_vec()].concat()),
        "Close" => framed(b'C', &[argument(1).as_bytes(), &text(argument(2))].concat()),
        "Sync" => framed(b'S', &[]),
        "Flush" => framed(b'H', &[]),
        "Terminate" => framed(b'X', &[]),
        "CopyData" => framed(b'd', argument(1).as_bytes()),
        "CopyBytes" => framed(b'd', &bytes(argument(1))),
        "CopyDone" => framed(b'c', &[]),
        "CopyFail" => framed(b'f', &text(argument(1))),
        "Bytes" => framed(argument(1).as_bytes()[0], &bytes(argument(2))),
        other => panic!("no message {other}"),
    }
}

/// How far an answer is read.
#[derive(Clone, Copy)]
enum Until {
    /// So many `ReadyForQuery`.
    Ready(usize),
    /// So many messages.
    Answers(usize),
    /// The end of the connection.
    Closed,
}

struct Wire {
    socket: TcpStream,
    out: Vec<u8>,
    closed: bool,
    offered_encryption: bool,
}

impl Wire {
    fn open(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, out: Vec::new(), closed: false, offered_encryption: false }
    }

    fn log_in(&mut self) {
        let pending = std::mem::replace(&mut self.out, startup(&["3", "0", "user", "test", "database", "stratagem"].map(str::to_owned)));
        let answers = self.exchange(Until::Ready(1));
        assert_eq!(answers.last().map(String::as_str), Some("ReadyForQuery I"), "{answers:?}");
        self.out = pending;
    }

    /// Sends what is gathered and reads the answers.
    fn exchange(&mut self, until: Until) -> Vec<String> {
        // a server that has closed already has told why, which is read below
        let sent = std::mem::take(&mut self.out);
        self.offered_encryption = sent.len() == 8;
        let _ = self.socket.write_all(&sent);
        let mut answers: Vec<String> = Vec::new();
        loop {
            let readies = answers.iter().filter(|a| a.starts_with("ReadyForQuery")).count();
            match until {
                Until::Ready(n) if readies == n => return answers,
                Until::Answers(n) if answers.len() == n => return answers,
                _ => {}
            }
            match self.read() {
                Some(answer) => answers.push(answer),
                None => {
                    answers.push("(closed)".to_owned());
                    self.closed = true;
                    return answers;
                }
            }
        }
    }

    fn read(&mut self) -> Option<String> {
        let mut kind = [0];
        self.socket.read_exact(&mut kind).ok()?;
        // a lone N declines an offer of encryption, and is no message
        if kind == *b"N" && self.offered_encryption {
            return Some("N".to_owned());
        }
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.socket.read_exact(&mut body).ok()?;
        Some(shown(kind[0], &body))
    }
}

fn strings(body: &[u8]) -> Vec<String> {
    body.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned()).collect()
}

/// An answer in one line. Process numbers, secrets and versions are left out.
fn shown(kind: u8, body: &[u8]) -> String {
    let short = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match kind {
        b'R' => "AuthenticationOk".to_owned(),
        b'S' => format!("ParameterStatus {}", strings(body)[..2].join("=")),
        b'K' => "BackendKeyData".to_owned(),
        b'v' => format!("NegotiateProtocolVersion {} {}", body[3], strings(&body[8..]).join(" ").trim_end()).trim_end().to_owned(),
        b'Z' => format!("ReadyForQuery {}", body[0] as char),
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        b'C' => format!("CommandComplete {}", strings(body)[0]),
        b't' => {
            let types =
                (0..short(0) as usize).map(|i| u32::from_be_bytes(body[2 + 4 * i..6 + 4 * i].try_into().expect("four bytes")).to_string());
            format!("ParameterDescription {}", types.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
        }
        b'T' => format!("RowDescription {}", columns(body)),
        b'D' => format!("DataRow {}", values(body)),
        b'E' | b'N' => {
            let fields = strings(body);
            let field = |code: char| fields.iter().find_map(|f| f.strip_prefix(code));
            let position = field('P').map(|p| format!(" (at {p})")).unwrap_or_default();
            let name = if kind == b'E' { "ErrorResponse" } else { "NoticeResponse" };
            let context = field('W').map(|w| format!(" ({w})")).unwrap_or_default();
            format!("{name} {} {} {}{position}{context}", field('S').unwrap_or("?"), field('C').unwrap_or("?"), field('M').unwrap_or("?"))
        }
        b'G' | b'H' => {
            let formats: Vec<_> = (0..short(1) as usize).map(|i| short(3 + 2 * i).to_string()).collect();
            format!("{} {} ({})", if kind == b'G' { "CopyInResponse" } else { "CopyOutResponse" }, body[0], formats.join(" "))
        }
        b'd' => match std::str::from_utf8(body) {
            Ok(text) if !text.contains('\0') => format!("CopyData {text:?}"),
            _ => format!("CopyData {}", body.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        },
        b'c' => "CopyDone".to_owned(),
        other => format!("{} {body:?}", other as char),
    }
}

fn columns(body: &[u8]) -> String {
    let mut at = 2;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes([body[0], body[1]]) {
        let end = at + body[at..].iter().position(|b| *b == 0).expect("the end of a name");
        let name = String::from_utf8_lossy(&body[at..end]).into_owned();
        let type_id = u32::from_be_bytes(body[end + 7..end + 11].try_into().expect("four bytes"));
        let format = body[end + 18];
        columns.push(format!("{name}:{type_id}{}", if format == 1 { ":binary" } else { "" }));
        at = end + 19;
    }
    columns.join(" ")
}

fn values(body: &[u8]) -> String {
    let mut at = 2;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes([body[0], body[1]]) {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            values.push("NULL".to_owned());
            continue;
        };
        let value = &body[at..at + length];
        let printable = value.iter().all(|b| (b' '..=b'~').contains(b));
        values.push(if printable {
            format!("'{}'", String::from_utf8_lossy(value))
        } else {
            value.iter().map(|b| format!("{b:02x}")).collect()
        });
        at += length;
    }
    values.join(" ")
}
