//! The digits of numbers: rounded, with an exponent, Roman.

/// A number of digits, `scale` of them behind the point, with `behind` of them there; none where they are too many to be told.
pub(super) fn rounded(value: u128, scale: i32, behind: usize) -> Option<String> {
    let mut digits = value.to_string().into_bytes();
    let behind_now = i64::from(scale);
    let wanted = i64::try_from(behind).ok()?;
    if behind_now < wanted {
        digits.resize(digits.len() + usize::try_from(wanted - behind_now).ok()?, b'0');
    } else if behind_now > wanted {
        let drop = usize::try_from(behind_now - wanted).ok()?;
        let up = digits.len() >= drop && digits[digits.len() - drop] >= b'5';
        digits.truncate(digits.len().saturating_sub(drop));
        if up {
            match digits.iter().rposition(|digit| *digit != b'9') {
                Some(at) => {
                    digits[at] += 1;
                    digits[at + 1..].fill(b'0');
                }
                None => {
                    digits.fill(b'0');
                    digits.insert(0, b'1');
                }
            }
        }
    }
    if digits.len() <= behind {
        digits.splice(0..0, std::iter::repeat_n(b'0', behind + 1 - digits.len()));
    }
    let point = digits.len() - behind;
    if behind > 0 {
        digits.insert(point, b'.');
    }
    let zeros = digits[..point].iter().take_while(|digit| **digit == b'0').count().min(point - 1);
    digits.drain(..zeros);
    String::from_utf8(digits).ok()
}

/// A number with an exponent.
pub(super) fn scientific(value: i128, scale: i8, behind: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let mut exponent = digits.len() as i64 - 1;
    let mut mantissa = rounded(value.unsigned_abs(), i32::try_from(exponent).unwrap_or_default(), behind).unwrap_or_default();
    if mantissa.starts_with("10") {
        // rounded up to one digit more
        exponent += 1;
        mantissa = format!("{:.behind$}", 1.0);
    }
    if value == 0 {
        exponent = i64::from(scale);
    }
    with_exponent(&format!("{sign}{mantissa}"), exponent - i64::from(scale))
}

pub(super) fn with_exponent(mantissa: &str, exponent: i64) -> String {
    let space = if mantissa.starts_with('-') { "" } else { " " };
    format!("{space}{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A number in Roman digits, where it has some.
pub(super) fn roman(number: u32) -> Option<String> {
    const SIGNS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&number) {
        return None;
    }
    let mut rest = number;
    let mut text = String::new();
    for (value, sign) in SIGNS {
        while rest >= value {
            text.push_str(sign);
            rest -= value;
        }
    }
    Some(text)
}
