//! The text of one row as its tokens come: cut before a stop string.

/// A text made of pieces of whole characters.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    stop: Vec<String>,
}

impl Text {
    pub(super) fn new(stop: Vec<String>) -> Self {
        Self { text: String::new(), stop }
    }

    /// Adds a piece. True when the text now has a stop string; it is cut before it.
    pub(super) fn push(&mut self, piece: &str) -> bool {
        let known = self.text.len();
        self.text.push_str(piece);
        self.cut(known)
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Cuts before the first stop string that ends after the first `known` bytes.
    fn cut(&mut self, known: usize) -> bool {
        let first = self.stop.iter().filter_map(|stop| {
            let start = known.saturating_sub(stop.len() - 1);
            // Not from the middle of a character: a stop string begins with a whole one.
            let start = (start..=known).find(|at| self.text.is_char_boundary(*at)).unwrap_or(known);
            self.text[start..].find(stop.as_str()).map(|at| start + at)
        });
        let Some(at) = first.min() else { return false };
        self.text.truncate(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_all(text: &mut Text, pieces: &[&str]) -> Vec<bool> {
        pieces.iter().map(|piece| text.push(piece)).collect()
    }

    #[test]
    fn the_text_ends_before_a_stop_string_that_spans_tokens() {
        let mut text = Text::new(vec!["\n\n".to_owned(), "END".to_owned()]);
        assert_eq!(push_all(&mut text, &["one\n", "two E", "N", "Dless"]), [false, false, false, true]);
        assert_eq!(text.finish(), "one\ntwo ");
    }

    #[test]
    fn of_two_stop_strings_the_first_in_the_text_counts() {
        let mut text = Text::new(vec!["c".to_owned(), "bc".to_owned(), "é".to_owned()]);
        assert!(text.push("abcdé"));
        assert_eq!(text.finish(), "a");
        let mut text = Text::new(vec!["é中".to_owned()]);
        assert_eq!(push_all(&mut text, &["中é", "", "中"]), [false, false, true]);
        assert_eq!(text.finish(), "中");
    }
}
