//! A time zone, with what its times are called.

use std::str::FromStr;

use chrono::{DateTime, LocalResult, Offset, TimeZone};
use chrono_tz::OffsetName;
use datafusion::arrow::array::timezone::Tz;
use datafusion::common::{Result, exec_datafusion_err};

const SECONDS_PER_DAY: i64 = 86_400;

/// A time zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone {
    zone: Tz,
    /// None where it is a distance from UTC.
    named: Option<chrono_tz::Tz>,
}

impl Zone {
    pub(super) fn new(name: &str) -> Result<Self> {
        Ok(Self { zone: Tz::from_str(name)?, named: name.parse().ok() })
    }

    /// Seconds from UTC at a time in UTC, and what the time is called.
    pub(super) fn at(&self, microseconds: i64) -> Result<(i64, String)> {
        let time = DateTime::from_timestamp_micros(microseconds).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
        let offset = self.zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        let name = self.named.map(|zone| zone.offset_from_utc_datetime(&time.naive_utc()));
        let name = name.as_ref().and_then(OffsetName::abbreviation).map_or_else(|| offset.to_string(), str::to_owned);
        Ok((i64::from(offset.local_minus_utc()), name))
    }

    /// Seconds from UTC at a time of this zone. One that there was twice is the later, one that there was not counts on as before.
    pub(super) fn at_local(&self, microseconds: i64) -> Result<i64> {
        let out_of_range = || exec_datafusion_err!("timestamp out of range");
        let time = DateTime::from_timestamp_micros(microseconds).ok_or_else(out_of_range)?.naive_utc();
        let offset = match self.zone.offset_from_local_datetime(&time) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset.fix(),
            LocalResult::None => {
                let before = DateTime::from_timestamp_micros(microseconds - SECONDS_PER_DAY * 1_000_000).ok_or_else(out_of_range)?;
                self.zone.offset_from_utc_datetime(&before.naive_utc()).fix()
            }
        };
        Ok(i64::from(offset.local_minus_utc()))
    }
}
