//! The settings of a session: one table of known names, their defaults and the values they take.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use datafusion::arrow::array::timezone::Tz;

use stratagem_udfs::usage::{Limits, OnError};

use crate::sqlstate::{Severity, SqlError, SqlState};

/// What values a setting takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any text of at most 63 bytes.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `on` or `off`, in PostgreSQL's spellings.
    Switch,
    /// A whole number between two bounds.
    Number(i64, i64),
    /// A time with an optional unit, in milliseconds where there is none; 0 is "no limit".
    Time,
    /// An IANA time zone or an offset.
    TimeZone,
    /// A list of schema names.
    Path,
    /// Told to clients, never set by them.
    Fixed,
}

/// One known setting.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Whether the client is told of each change (ParameterStatus), as drivers rely on it.
    reported: bool,
    pub(crate) about: &'static str,
}

const fn setting(name: &'static str, default: &'static str, kind: Kind, reported: bool, about: &'static str) -> Setting {
    Setting { name, default, kind, reported, about }
}

const LEVELS: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];
const ISOLATION: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];

/// Every setting a session knows, by name.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("application_name", "", Kind::Text, true, "the name of the client program"),
    setting("bytea_output", "hex", Kind::Word(&["hex"]), false, "how bytea is written as text"),
    setting("client_encoding", "UTF8", Kind::Word(&["UTF8", "UTF-8", "unicode"]), true, "the client's character set"),
    setting("client_min_messages", "notice", Kind::Word(LEVELS), false, "the least severe message that is sent"),
    setting("datafusion.execution.batch_size", "8192", Kind::Number(1, 1 << 20), false, "rows per batch inside the engine"),
    setting("datafusion.execution.target_partitions", "0", Kind::Number(0, 1024), false, "parallel streams of a query; 0 is one per core"),
    setting("DateStyle", "ISO, MDY", Kind::Word(&["ISO", "ISO, MDY", "ISO, DMY", "ISO, YMD"]), true, "how dates are written"),
    setting("default_transaction_isolation", "read committed", Kind::Word(ISOLATION), false, "isolation of new transactions"),
    setting("default_transaction_read_only", "off", Kind::Switch, true, "whether new transactions only read"),
    setting("extra_float_digits", "1", Kind::Number(-15, 3), false, "accepted; floats are always written in full"),
    setting("idle_in_transaction_session_timeout", "0", Kind::Time, false, "ends a session that idles inside a transaction"),
    setting("in_hot_standby", "off", Kind::Fixed, true, "never a standby"),
    setting("integer_datetimes", "on", Kind::Fixed, true, "binary times are integers"),
    setting("IntervalStyle", "postgres", Kind::Word(&["postgres"]), true, "how intervals are written"),
    setting("is_superuser", "off", Kind::Fixed, true, "there are no superusers"),
    setting("jit", "off", Kind::Switch, false, "accepted; nothing is compiled"),
    setting("lock_timeout", "0", Kind::Time, false, "longest wait for an advisory lock; 0 is no limit"),
    setting("max_identifier_length", "63", Kind::Fixed, false, "longest name in bytes"),
    setting("max_index_keys", "32", Kind::Fixed, false, "there are no indexes"),
    setting(
        "ml.max_tokens_per_query",
        "0",
        Kind::Number(0, i64::MAX),
        false,
        "tokens after which a statement begins no further text; 0 is no limit",
    ),
    setting(
        "ml.on_error",
        "fail",
        Kind::Word(&["fail", "null", "report"]),
        false,
        "what becomes of rows that a language model has no answer for",
    ),
    setting("ml.timeout", "0", Kind::Time, false, "longest time the texts of a statement may take"),
    setting("row_security", "on", Kind::Switch, false, "accepted"),
    setting(
        "search_path",
        "work, public",
        Kind::Path,
        true,
        "where names without a schema are looked up; the first is where new tables go",
    ),
    setting("server_encoding", "UTF8", Kind::Fixed, true, "the server's character set"),
    setting("server_version", "16.6", Kind::Fixed, true, "the PostgreSQL version whose behaviour is followed"),
    setting("server_version_num", "160006", Kind::Fixed, false, "the same as a number"),
    setting("standard_conforming_strings", "on", Kind::Word(&["on"]), true, "backslashes are ordinary characters in strings"),
    setting("statement_timeout", "0", Kind::Time, false, "longest time a statement may run"),
    setting("TimeZone", "UTC", Kind::TimeZone, true, "the zone in which timestamps with time zone are shown"),
    setting("transaction_isolation", "read committed", Kind::Word(ISOLATION), false, "isolation of this transaction"),
    setting("transaction_read_only", "off", Kind::Switch, false, "whether this transaction only reads"),
];

/// The current values of one session. Never shared with another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Defaults of this session: the server's, overlaid by what the client asked for at start-up. RESET goes back to these.
    defaults: BTreeMap<&'static str, String>,
    values: BTreeMap<&'static str, String>,
}

/// Finds a setting whatever the case of its name.
fn find(name: &str) -> Result<&'static Setting, SqlError> {
    SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let error = SqlError::new(SqlState::UndefinedObject, format!("unrecognized configuration parameter \"{name}\""));
        match stratagem_udfs::spelling::closest(SETTINGS.iter().map(|s| s.name), name) {
            Some(known) => error.with_hint(format!("perhaps you meant \"{known}\"; SHOW ALL lists the settings")),
            None => error.with_hint("SHOW ALL lists the settings"),
        }
    })
}

impl Settings {
    /// The built-in defaults with the server's own statement timeout.
    pub(crate) fn new(statement_timeout: Duration) -> Self {
        let mut defaults: BTreeMap<_, _> = SETTINGS.iter().map(|s| (s.name, s.default.to_owned())).collect();
        defaults.insert("statement_timeout", statement_timeout.as_millis().to_string());
        Self { values: defaults.clone(), defaults }
    }

    /// Sets a value.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        let setting = find(name)?;
        let value = check(setting, value)?;
        self.values.insert(setting.name, value);
        Ok(())
    }

    /// Sets what the client asked for in its start-up message, which is also what RESET restores.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) -> Result<(), SqlError> {
        self.set(name, value)?;
        let setting = find(name)?;
        self.defaults.insert(setting.name, self.values[setting.name].clone());
        Ok(())
    }

    /// Back to the session's default.
    pub(crate) fn reset(&mut self, name: &str) -> Result<(), SqlError> {
        let setting = find(name)?;
        let value = self.defaults[setting.name].clone();
        self.values.insert(setting.name, value);
        Ok(())
    }

    /// All settings back to the session's defaults.
    pub(crate) fn reset_all(&mut self) {
        self.values = self.defaults.clone();
    }

    /// The value of a setting as SHOW prints it, with the setting's own spelling of the name.
    pub(crate) fn show(&self, name: &str) -> Result<(&'static str, String), SqlError> {
        let setting = find(name)?;
        let value = &self.values[setting.name];
        let shown = match setting.kind {
            Kind::Time => time_text(value),
            _ => value.clone(),
        };
        Ok((setting.name, shown))
    }

    /// Name, value and description of every setting.
    pub(crate) fn all(&self) -> Vec<(&'static str, String, &'static str)> {
        SETTINGS.iter().map(|s| (s.name, self.show(s.name).map(|(_, v)| v).unwrap_or_default(), s.about)).collect()
    }

    /// A setting of the compiled-in default, its default in this session, its type and whether it can be set.
    pub(crate) fn facts(&self, name: &str) -> Result<(&'static str, String, &'static str, bool), SqlError> {
        let setting = find(name)?;
        let data_type = match setting.kind {
            Kind::Switch => "bool",
            Kind::Number(..) | Kind::Time => "integer",
            Kind::Word(_) => "enum",
            Kind::Text | Kind::TimeZone | Kind::Path | Kind::Fixed => "string",
        };
        Ok((setting.default, self.defaults[setting.name].clone(), data_type, !matches!(setting.kind, Kind::Fixed)))
    }

    /// The value of a setting in its own unit.
    pub(crate) fn raw(&self, name: &'static str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_default()
    }

    /// What a client is told at start-up.
    pub(crate) fn reported(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS.iter().filter(|s| s.reported).map(|s| (s.name, self.values[s.name].as_str()))
    }

    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.time("statement_timeout")
    }

    pub(crate) fn lock_timeout(&self) -> Option<Duration> {
        self.time("lock_timeout")
    }

    pub(crate) fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        self.time("idle_in_transaction_session_timeout")
    }

    /// What a statement may ask of language models.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            tokens: self.values["ml.max_tokens_per_query"].parse().ok().filter(|tokens| *tokens > 0),
            time: self.time("ml.timeout"),
            on_error: OnError::parse(&self.values["ml.on_error"]).unwrap_or_default(),
        }
    }

    fn time(&self, name: &'static str) -> Option<Duration> {
        self.values[name].parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    pub(crate) fn application_name(&self) -> &str {
        &self.values["application_name"]
    }

    pub(crate) fn time_zone(&self) -> &str {
        &self.values["TimeZone"]
    }

    pub(crate) fn batch_size(&self) -> usize {
        self.values["datafusion.execution.batch_size"].parse().unwrap_or(8192)
    }

    /// Parallel streams asked for, or none for the server's default.
    pub(crate) fn target_partitions(&self) -> Option<usize> {
        self.values["datafusion.execution.target_partitions"].parse().ok().filter(|n| *n > 0)
    }

    /// Whether nothing may be written: in a transaction block by its own setting, outside by that of new transactions.
    pub(crate) fn read_only(&self, block: bool) -> bool {
        self.values[if block { "transaction_read_only" } else { "default_transaction_read_only" }] == "on"
    }

    /// The schemas in which names without a schema are looked up, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        split_path(&self.values["search_path"])
    }

    /// Whether the client wants to see a message of this severity.
    pub(crate) fn wants(&self, severity: Severity) -> bool {
        let least = match self.values["client_min_messages"].as_str() {
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            _ => Severity::Notice,
        };
        severity >= least
    }
}

/// The canonical form of a value, or why it is refused.
fn check(setting: &Setting, value: &str) -> Result<String, SqlError> {
    let refused = |hint: String| {
        SqlError::new(SqlState::InvalidParameterValue, format!("invalid value for parameter \"{}\": \"{value}\"", setting.name))
            .with_hint(hint)
    };
    match setting.kind {
        Kind::Fixed => Err(SqlError::new(SqlState::InsufficientPrivilege, format!("parameter \"{}\" cannot be changed", setting.name))),
        Kind::Text => Ok(value
            .chars()
            .filter(|c| !c.is_control())
            .scan(0, |bytes, c| {
                (*bytes + c.len_utf8() <= 63).then(|| {
                    *bytes += c.len_utf8();
                    c
                })
            })
            .collect()),
        // as PostgreSQL, only letters and digits count in the name of an encoding
        Kind::Word(_) if setting.name == "client_encoding" => {
            let name: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            match name.to_ascii_lowercase().as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                _ => Err(refused("available values: UTF8".to_owned())),
            }
        }
        Kind::Word(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(value)) {
            Some(_) if setting.name == "DateStyle" && value.eq_ignore_ascii_case("iso") => Ok("ISO, MDY".to_owned()),
            Some(word) => Ok((*word).to_owned()),
            None => Err(refused(format!("available values: {}", words.join(", ")))),
        },
        Kind::Switch => match value.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" => Ok("on".to_owned()),
            "off" | "false" | "no" | "0" | "f" => Ok("off".to_owned()),
            _ => Err(refused("available values: on, off".to_owned())),
        },
        Kind::Number(least, most) => match value.parse::<i64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n.to_string()),
            _ => Err(refused(format!("a whole number from {least} to {most}"))),
        },
        Kind::Time => millis(value)
            .map(|ms| ms.to_string())
            .ok_or_else(|| refused("a time such as 500ms, 30s, 5min or 1h; 0 turns it off".to_owned())),
        Kind::TimeZone => {
            time_zone(value).ok_or_else(|| refused("an IANA name such as Europe/Paris, or an offset such as +02:00".to_owned()))
        }
        Kind::Path => Ok(split_path(value).join(", ")),
    }
}

fn time_zone(value: &str) -> Option<String> {
    let name = match value.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "zulu" | "default" | "local" => "UTC".to_owned(),
        _ => match value.parse::<f64>() {
            Ok(hours) if hours.abs() < 16.0 => format!(
                "{}{:02}:{:02}",
                if hours < 0.0 { '-' } else { '+' },
                hours.abs() as u32,
                (hours.abs().fract() * 60.0).round() as u32
            ),
            _ => value.to_owned(),
        },
    };
    Tz::from_str(&name).ok().map(|_| name)
}

fn millis(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let number: f64 = value[..digits].parse().ok()?;
    let unit = match value[digits..].trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = (number * unit).round();
    (ms >= 0.0 && ms <= f64::from(i32::MAX)).then_some(ms as u64)
}

fn time_text(ms: &str) -> String {
    let Ok(ms) = ms.parse::<u64>() else { return ms.to_owned() };
    match ms {
        0 => "0".to_owned(),
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Splits `work, "My Schema"` and folds what is not quoted.
fn split_path(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in value.split(',') {
        let part = part.trim();
        let name = match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.to_lowercase(),
        };
        if !name.is_empty() && name != "$user" {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(Duration::ZERO)
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_closest_known_one() {
        let error = settings().set("statment_timeout", "1").expect_err("unknown");
        assert_eq!(error.state, SqlState::UndefinedObject);
        assert!(error.hint.expect("hint").contains("statement_timeout"));
    }

    #[test]
    fn times_are_read_with_units_and_shown_as_postgresql_shows_them() {
        let mut settings = settings();
        for (given, shown) in [("500", "500ms"), ("2s", "2s"), ("1.5s", "1500ms"), ("90min", "90min"), ("0", "0")] {
            settings.set("statement_timeout", given).expect("valid");
            assert_eq!(settings.show("STATEMENT_TIMEOUT").expect("known").1, shown);
        }
        assert!(settings.set("statement_timeout", "-1").is_err());
        assert!(settings.set("statement_timeout", "5 parsecs").is_err());
    }

    #[test]
    fn reset_restores_what_the_client_started_with() {
        let mut settings = settings();
        settings.set_default("application_name", "psql").expect("valid");
        settings.set("application_name", "x").expect("valid");
        settings.reset("application_name").expect("known");
        assert_eq!(settings.show("application_name").expect("known"), ("application_name", "psql".to_owned()));
    }

    #[test]
    fn time_zones_are_names_or_offsets() {
        let mut settings = settings();
        for (given, kept) in [("Europe/Paris", "Europe/Paris"), ("utc", "UTC"), ("+02:00", "+02:00"), ("-5", "-05:00"), ("5.5", "+05:30")] {
            settings.set("timezone", given).expect(given);
            assert_eq!(settings.time_zone(), kept);
        }
        assert!(settings.set("TimeZone", "Mars/Olympus").is_err());
    }

    #[test]
    fn fixed_settings_can_not_be_changed() {
        assert_eq!(settings().set("server_version", "9").expect_err("fixed").state, SqlState::InsufficientPrivilege);
    }
}
