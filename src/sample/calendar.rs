//! The two years of the shop: which days and hours are busy, and how the weight of a day is turned into a moment.

use super::random::{Cumulative, Random};

/// Microseconds of a second, an hour and a day.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Days from 1970-01-01 to the first day of the log, 2024-01-01, a Monday.
const FIRST_DAY: i64 = 19_723;
/// The log covers 2024 and 2025.
pub(crate) const DAYS: usize = 366 + 365;
/// Customers could sign up two years before the log begins: 2022 and 2023.
const SIGNUP_DAYS_BEFORE: usize = 730;

/// First moment of the log, in microseconds since 1970.
pub(crate) const START: i64 = FIRST_DAY * DAY;
/// The moment after its last.
pub(crate) const END: i64 = START + DAYS as i64 * DAY;

/// Monday to Sunday: people buy on Sunday evening and Monday, least on Friday and Saturday.
const WEEKDAYS: [f64; 7] = [1.10, 1.03, 1.00, 0.98, 0.86, 0.90, 1.16];
/// January to December: sales in January, quiet summer, gifts at the end of the year.
const MONTHS: [f64; 12] = [1.02, 0.90, 0.94, 0.96, 0.97, 0.92, 0.86, 0.84, 0.96, 1.04, 1.28, 1.36];
/// Local hour: a small peak at lunch, the great one in the evening.
const HOURS: [f64; 24] =
    [0.9, 0.5, 0.3, 0.2, 0.2, 0.4, 1.0, 2.0, 3.1, 3.9, 4.4, 4.8, 5.2, 5.0, 4.7, 4.6, 4.7, 5.0, 5.6, 6.7, 7.8, 7.4, 5.0, 2.3];
/// Days before the first of each month, in a common year.
const MONTH_STARTS: [usize; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// Month (0-11) and day of the month (0-30) of a day of the log; days before the log count down from its first.
fn month_and_day(day: i64) -> (usize, usize) {
    // 2024 is a leap year: its days after 29 February move up by one, and that day shares the place of the 28th
    let day_of_year = match day {
        0..=58 => day,
        59..=365 => day - 1,
        _ if day > 365 => day - 366,
        _ => day.rem_euclid(365),
    } as usize;
    let month = MONTH_STARTS.partition_point(|start| *start <= day_of_year) - 1;
    (month, day_of_year - MONTH_STARTS[month])
}

/// Month (0-11) of a day of the log.
pub(crate) fn month(day: i64) -> usize {
    month_and_day(day).0
}

/// True in the days from 22 to 30 November in which half of the shop is cheaper.
pub(crate) fn is_black_week(day: i64) -> bool {
    let (month, day) = month_and_day(day);
    month == 10 && day >= 21
}

/// How busy a day is; 1 is an ordinary day.
fn day_weight(day: i64) -> f64 {
    let (month, day_of_month) = month_and_day(day);
    let season = match (month, day_of_month) {
        (10, 21..) => 1.9,
        (11, 0..=17) => 1.55,
        // too late for a parcel to arrive, then the feast itself
        (11, 18..=22) => 0.95,
        (11, 23..=24) => 0.55,
        (0, 1..=13) => 1.2,
        _ => MONTHS[month],
    };
    season * WEEKDAYS[day.rem_euclid(7) as usize]
}

/// The calendar with its weights summed up.
#[derive(Debug)]
pub(crate) struct Calendar {
    days: Cumulative,
    hours: Cumulative,
    signups: Cumulative,
}

impl Calendar {
    pub(crate) fn new() -> Self {
        let signup = |day: i64| {
            // the shop grows: each year a third more customers join than in the year before
            let growth = libm::exp(0.29 * day as f64 / 365.0);
            day_weight(day) * growth
        };
        Self {
            days: Cumulative::new((0..DAYS as i64).map(day_weight)),
            hours: Cumulative::new(HOURS),
            signups: Cumulative::new((-(SIGNUP_DAYS_BEFORE as i64)..DAYS as i64).map(signup)),
        }
    }

    /// When the customer at this share (0-1) of all signed up.
    pub(crate) fn signup(&self, share: f64) -> i64 {
        // the last hours belong to nobody, so that everyone has time for a first visit
        let at = share * self.signups.sum(self.signups.len() - 1);
        let day = self.signups.find(at);
        let within = (at - self.signups.sum(day)) / self.signups.weight(day);
        START + (day as i64 - SIGNUP_DAYS_BEFORE as i64) * DAY + self.time_of_day(within)
    }

    /// Summed weight of the days of the log before this moment.
    pub(crate) fn busyness_until(&self, moment: i64) -> f64 {
        let since = (moment - START).clamp(0, END - START);
        let day = ((since / DAY) as usize).min(DAYS - 1);
        self.days.sum(day) + self.days.weight(day) * ((since - day as i64 * DAY) as f64 / DAY as f64)
    }

    /// A moment on one of the days in a stretch of summed weight, at an hour when people are awake `offset` hours east of UTC.
    pub(crate) fn moment(&self, random: &mut Random, busyness: std::ops::Range<f64>, offset: i64) -> i64 {
        let at = busyness.start + random.unit() * (busyness.end - busyness.start);
        START + self.days.find(at) as i64 * DAY - offset * HOUR + self.time_of_day(random.unit())
    }

    /// The moment at which a share (0-1) of the day's visits is over, in microseconds after midnight.
    fn time_of_day(&self, share: f64) -> i64 {
        let at = share * self.hours.sum(24);
        let hour = self.hours.find(at);
        let within = (at - self.hours.sum(hour)) / self.hours.weight(hour);
        hour as i64 * HOUR + (within.clamp(0.0, 0.999_999) * HOUR as f64) as i64
    }
}

/// Day of the log, from 0, of a moment; negative before the log.
pub(crate) fn day_of(moment: i64) -> i64 {
    (moment - START).div_euclid(DAY)
}

/// Local hour, 0-23, `offset` hours east of UTC.
pub(crate) fn local_hour(moment: i64, offset: i64) -> usize {
    (moment + offset * HOUR).rem_euclid(DAY).div_euclid(HOUR) as usize
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike};

    use super::*;

    #[test]
    fn days_agree_with_the_real_calendar() {
        for day in 0..DAYS as i64 {
            let date = DateTime::from_timestamp_micros(START + day * DAY).unwrap();
            assert_eq!(date.weekday().num_days_from_monday() as i64, day.rem_euclid(7));
            assert_eq!(date.month0() as usize, month(day), "{date}");
            if (date.month(), date.day()) != (2, 29) {
                assert_eq!(date.day0() as usize, month_and_day(day).1, "{date}");
            }
        }
        let last = DateTime::from_timestamp_micros(END - 1).unwrap();
        assert_eq!((last.year(), last.month(), last.day()), (2025, 12, 31));
    }

    #[test]
    fn signups_rise_with_their_share_and_end_before_the_log() {
        let calendar = Calendar::new();
        let moments: Vec<i64> = (0..1000).map(|share| calendar.signup(f64::from(share) / 999.0)).collect();
        assert!(moments.is_sorted());
        assert!(moments[0] < START && moments[999] <= END - DAY);
    }
}
