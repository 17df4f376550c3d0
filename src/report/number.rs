//! Numbers as people read them.

/// A whole number with its thousands apart: `20,000`.
pub(super) fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "−".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number to three digits that say something: `0.639`, `0.00488`, `12.3`, `1,240`.
pub(super) fn short(value: f64) -> String {
    rounded(value, 3)
}

/// A number with as many decimals as the largest of its kind needs: `0.083`, `0.001`.
pub(super) fn like(value: f64, most: f64) -> String {
    let decimals = (1 - most.abs().max(1e-9).log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') { text.replace('-', "") } else { text.replace('-', "−") }
}

/// A share as a percentage: `0.49%`, `12.3%`, `100%`.
pub(super) fn percent(share: f64) -> String {
    let text = rounded(share * 100.0, 3);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

fn rounded(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return if value.is_nan() { "–".to_owned() } else { format!("{}∞", if value < 0.0 { "−" } else { "" }) };
    }
    let size = value.abs().log10().floor() as i32;
    if size < -5 {
        let scaled = value / 10_f64.powi(size);
        return format!("{scaled:.1} × 10{}", superscript(size)).replace('-', "−");
    }
    let decimals = (digits - 1 - size).clamp(0, 8);
    if decimals == 0 {
        return count(value);
    }
    format!("{value:.*}", decimals as usize).replace('-', "−")
}

fn superscript(number: i32) -> String {
    let digit = |digit: char| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    number.to_string().chars().map(digit).collect()
}

/// The text of a tick, with as many digits as its step needs.
pub(super) fn tick(value: f64, step: f64) -> String {
    let whole = |decimals: &usize| {
        let scaled = step * 10_f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() < 1e-6
    };
    let decimals = (0..8).find(whole).unwrap_or(8);
    if decimals == 0 { count(value + 0.0) } else { format!("{value:.decimals$}").replace('-', "−") }
}

/// The same of a share in percent.
pub(super) fn percent_tick(value: f64, step: f64) -> String {
    if value == 0.0 { "0%".to_owned() } else { format!("{}%", tick(value * 100.0, step * 100.0)) }
}

/// Round steps that cut the way from 0 to `to` into four to eight.
pub(super) fn step(to: f64) -> f64 {
    let raw = to / 5.0;
    let size = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * size >= raw * 0.9).unwrap_or(10.0);
    factor * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 20_000.0, 999.0, -1_234_567.0].map(count), ["0", "20,000", "999", "−1,234,567"]);
        assert_eq!(
            [0.639_12, 0.004_876, 12.345, 1_240.4, 0.0, -0.0123, 1.0, 2.5e-7].map(short),
            ["0.639", "0.00488", "12.3", "1,240", "0", "−0.0123", "1.00", "2.5 × 10⁻⁷"]
        );
        assert_eq!([0.0049, 0.123, 1.0, 0.5].map(percent), ["0.49%", "12.3%", "100%", "50%"]);
        assert_eq!([0.083, 0.00124, -0.0009, -0.0001].map(|value| like(value, 0.083)), ["0.083", "0.001", "−0.001", "0.000"]);
        assert_eq!([short(f64::NAN), short(f64::INFINITY)], ["–", "∞"]);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([1.0, 0.04, 7.0, 10.0, 0.13].map(step), [0.2, 0.01, 2.0, 2.0, 0.025]);
    }
}
