//! The server's configuration: defaults, overlaid by a file, by the environment, by flags.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// Everything that can be configured. `stratagem.example.toml` shows each key with its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of Parquet files that are the tables.
    pub data: PathBuf,
    /// The server's own folder: tables and views made with SQL, models, temporary files. Empty is `.stratagem` inside `data`.
    pub state: PathBuf,
    /// Where the server listens.
    pub server: ServerConfig,
    /// The models' runtime.
    pub models: ModelsConfig,
    /// The language models' engines.
    pub texts: TextsConfig,
    /// What a client and the server may use.
    pub limits: Limits,
    /// The log.
    pub log: LogConfig,
}

/// Where the server listens and how it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The address. Beyond the loopback it is refused as long as there is no authentication.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// How long running statements may go on after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// The models' runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsConfig {
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
}

/// What the engine of each language model may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextsConfig {
    /// Texts that are written together.
    pub rows: usize,
    /// Texts that may wait; beyond it a statement is refused.
    pub queue: usize,
    /// Memory for the keys and values of prompts and texts.
    pub cache: ByteSize,
    /// A model that nobody asked for so long gives its memory back.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
}

/// What a client and the server may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Memory of all queries together: bytes such as `4 GB`, or a share of the machine's such as `50%`. Beyond it they spill or fail.
    pub memory: Memory,
    /// Disk for spilling.
    pub temp_disk: ByteSize,
    /// Disk for tables made with SQL.
    pub table_disk: ByteSize,
    /// Longest statement; clients may change it for themselves. 0 s is no limit.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// Largest message of a client.
    pub message_size: ByteSize,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A level (`error`, `warn`, `info`, `debug`), or levels per module as `tracing` filters write them.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            state: PathBuf::new(),
            server: ServerConfig { host: "127.0.0.1".to_owned(), port: 5433, grace: Duration::from_secs(30) },
            models: ModelsConfig { device: "auto".to_owned() },
            texts: TextsConfig { rows: 32, queue: 4096, cache: ByteSize::gib(1), idle: Duration::from_secs(10 * 60) },
            limits: Limits {
                connections: 100,
                memory: Memory::Share(50),
                temp_disk: ByteSize::gb(20),
                table_disk: ByteSize::gb(50),
                statement_timeout: Duration::from_secs(30 * 60),
                message_size: ByteSize::mib(64),
            },
            log: LogConfig { level: "info,ort=warn".to_owned(), format: LogFormat::Text },
        }
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was named is not there.
    #[error("the configuration file {} does not exist", .0.display())]
    NoFile(PathBuf),
    /// A key or value that is not understood, and where it came from.
    #[error("the configuration is not valid: {0}")]
    Invalid(Box<figment::Error>),
    /// The data folder is not there.
    #[error("the data folder {} does not exist or is not a folder; name it with --data DIR", .0.display())]
    NoData(PathBuf),
    /// Listening beyond the loopback without passwords.
    #[error(
        "refusing to listen on {0}: it can be reached from other machines and this server has no authentication yet; use 127.0.0.1 or ::1, or a tunnel"
    )]
    Exposed(String),
    /// A host name that is no address.
    #[error("server.host {0:?} is not an IP address; use 127.0.0.1 or ::1")]
    Host(String),
    /// A limit of zero.
    #[error("{0} must be greater than 0")]
    Zero(&'static str),
}

impl Config {
    /// Reads the configuration: defaults < file < environment (`STRATAGEM_LIMITS__MEMORY=4GB`) < flags.
    ///
    /// # Errors
    /// Where the file does not exist, a key is unknown or a value can't be read.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, Error> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::NoFile(file.to_owned()));
            }
            figment = figment.merge(Toml::file(file));
        }
        // STRATAGEM_CACHE tells where the set-up keeps its files and is no key of the server
        let environment = Env::prefixed("STRATAGEM_").split("__").ignore(&["cache"]);
        figment.merge(environment).merge(Serialized::defaults(flags)).extract().map_err(|e| Error::Invalid(Box::new(e)))
    }

    /// The address to listen on.
    ///
    /// # Errors
    /// Where the host is no address, or reachable from other machines.
    pub fn address(&self) -> Result<(IpAddr, u16), Error> {
        let host = if self.server.host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { &self.server.host };
        let ip: IpAddr = host.parse().map_err(|_| Error::Host(self.server.host.clone()))?;
        if !ip.is_loopback() {
            return Err(Error::Exposed(ip.to_string()));
        }
        Ok((ip, self.server.port))
    }

    /// Checks what can be checked before the start.
    ///
    /// # Errors
    /// Where the data folder is missing, the address exposed or a limit is zero.
    pub fn check(&self) -> Result<(), Error> {
        self.address()?;
        if !self.data.is_dir() {
            return Err(Error::NoData(self.data.clone()));
        }
        let zeros = [
            ("limits.connections", self.limits.connections == 0),
            ("limits.memory", self.limits.memory.bytes() == 0),
            ("limits.message_size", self.limits.message_size.as_u64() == 0),
            ("texts.rows", self.texts.rows == 0),
            ("texts.queue", self.texts.queue == 0),
            ("texts.cache", self.texts.cache.as_u64() == 0),
        ];
        match zeros.iter().find(|(_, zero)| *zero) {
            Some((key, _)) => Err(Error::Zero(key)),
            None => Ok(()),
        }
    }

    /// The server's own folder.
    pub fn state(&self) -> PathBuf {
        if self.state.as_os_str().is_empty() { self.data.join(".stratagem") } else { self.state.clone() }
    }

    /// The folder of the trained and imported models.
    pub fn models_folder(&self) -> PathBuf {
        self.state().join("models")
    }
}

/// What flags of the command line override.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Flags {
    /// `--data`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// `--state`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// `--host` and `--port`
    #[serde(skip_serializing_if = "ServerFlags::is_empty")]
    pub server: ServerFlags,
    /// `--device`
    #[serde(skip_serializing_if = "ModelsFlags::is_empty")]
    pub models: ModelsFlags,
}

/// Flags of the section `server`.
#[derive(Debug, Default, Clone, Serialize)]
pub struct ServerFlags {
    /// `--host`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `--port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl ServerFlags {
    fn is_empty(&self) -> bool {
        self.host.is_none() && self.port.is_none()
    }
}

/// Flags of the section `models`.
#[derive(Debug, Default, Clone, Serialize)]
pub struct ModelsFlags {
    /// `--device`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

impl ModelsFlags {
    fn is_empty(&self) -> bool {
        self.device.is_none()
    }
}

/// An amount of memory: bytes, or a share of what the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// So many bytes.
    Bytes(ByteSize),
    /// So many per cent.
    Share(u8),
}

impl Memory {
    /// The amount in bytes on this machine.
    pub fn bytes(self) -> usize {
        match self {
            Memory::Bytes(bytes) => usize::try_from(bytes.as_u64()).unwrap_or(usize::MAX),
            Memory::Share(percent) => machine_memory() / 100 * usize::from(percent),
        }
    }
}

/// What this machine, or the control group the process is in, has.
fn machine_memory() -> usize {
    const UNKNOWN: usize = 4 << 30;
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kb| kb * 1024)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    total.unwrap_or(UNKNOWN).min(group.unwrap_or(usize::MAX))
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a size such as \"4 GB\" nor a share such as \"50%\"");
        match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().filter(|p| (1..=95).contains(p)).map(Memory::Share).ok_or_else(wrong),
            None => text.parse().map(Memory::Bytes).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Bytes(bytes) => write!(f, "{bytes}"),
            Memory::Share(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_holds_every_key_at_its_default() {
        let text = include_str!("../stratagem.example.toml");
        let example: Config = toml::from_str(text).expect("the example is valid and complete");
        assert_eq!(example, Config::default());
    }

    #[test]
    fn an_address_beyond_the_loopback_is_refused() {
        for host in ["0.0.0.0", "192.0.2.1", "::"] {
            let mut config = Config::default();
            config.server.host = host.to_owned();
            assert!(matches!(config.address(), Err(Error::Exposed(_))), "{host}");
        }
        for host in ["127.0.0.1", "::1", "localhost", "127.8.8.8"] {
            let mut config = Config::default();
            config.server.host = host.to_owned();
            assert!(config.address().is_ok(), "{host}");
        }
    }

    #[test]
    fn memory_is_a_size_or_a_share() {
        assert_eq!("50%".parse(), Ok(Memory::Share(50)));
        assert_eq!("4 GB".parse(), Ok(Memory::Bytes(ByteSize::gb(4))));
        for wrong in ["0%", "100%", "much", ""] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong}");
        }
    }
}
