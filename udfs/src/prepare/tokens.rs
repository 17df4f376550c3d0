//! The words of a text.

/// Calls `each` with the words of a text in lower case: runs of letters and digits. Chinese and Japanese have no spaces between words; there
/// every character and every pair of neighbours is one (the n-grams of Damashek 1995, enough to find most words).
pub(crate) fn tokens(text: &str, mut each: impl FnMut(&str)) {
    let text = text.to_lowercase();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(char::is_alphanumeric) {
        rest = &rest[start..];
        let dense = rest.starts_with(without_spaces);
        let end = rest.find(|letter: char| !letter.is_alphanumeric() || without_spaces(letter) != dense).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if dense {
            grams(run, &mut each)
        } else {
            each(run)
        }
        rest = after;
    }
}

fn grams(run: &str, each: &mut impl FnMut(&str)) {
    let ends = || run.char_indices().map(|(at, letter)| at + letter.len_utf8());
    for ((start, _), end) in run.char_indices().zip(ends()) {
        each(&run[start..end]);
    }
    for ((start, _), end) in run.char_indices().zip(ends().skip(1)) {
        each(&run[start..end]);
    }
}

/// Han, Hiragana and Katakana.
fn without_spaces(letter: char) -> bool {
    matches!(letter,
        '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        tokens(text, |token| all.push(token.to_owned()));
        all
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(of("Très BON_marché, x2!"), ["très", "bon", "marché", "x2"]);
        assert_eq!(of("  --  "), [""; 0]);
        assert_eq!(of("아주 좋아요"), ["아주", "좋아요"]);
    }

    #[test]
    fn scripts_without_spaces_become_characters_and_pairs() {
        assert_eq!(of("很好用 ok"), ["很", "好", "用", "很好", "好用", "ok"]);
        assert_eq!(of("iPhone壳カ"), ["iphone", "壳", "カ", "壳カ"]);
    }
}
