//! Arrays as PostgreSQL writes them: `{1,NULL,"with \"quotes\""}` and their binary form.

/// The elements of an array in text. An array inside stays in its braces. None where the text is no array.
pub(super) fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut characters = inner.chars().peekable();
    while characters.next_if(|c| c.is_whitespace()).is_some() {}
    if characters.peek().is_none() {
        return Some(elements);
    }
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let mut element = String::new();
        match characters.peek()? {
            '"' => {
                characters.next();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => element.push(characters.next()?),
                        c => element.push(c),
                    }
                }
                elements.push(Some(element));
            }
            '{' => {
                nested(&mut characters, &mut element)?;
                elements.push(Some(element));
            }
            _ => {
                while let Some(c) = characters.next_if(|c| *c != ',') {
                    match c {
                        '\\' => element.push(characters.next()?),
                        '{' | '}' | '"' => return None,
                        c => element.push(c),
                    }
                }
                let element = element.trim_end();
                if element.is_empty() {
                    return None;
                }
                elements.push((!element.eq_ignore_ascii_case("null")).then(|| element.to_owned()));
            }
        }
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        match characters.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// Takes an array inside an array, with its braces.
fn nested(characters: &mut impl Iterator<Item = char>, element: &mut String) -> Option<()> {
    let (mut depth, mut quoted) = (0, false);
    loop {
        let c = characters.next()?;
        element.push(c);
        match c {
            '\\' => element.push(characters.next()?),
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(());
        }
    }
}

/// The elements of an array of one dimension in binary. None where the bytes are something else.
pub(super) fn from_binary(bytes: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let word = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match word(0)? {
        0 => return Some(Vec::new()),
        1 => {}
        _ => return None,
    }
    let count = usize::try_from(word(12)?).ok()?;
    let mut at = 20;
    let mut elements = Vec::with_capacity(count.min(bytes.len() / 4));
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        elements.push(match usize::try_from(length) {
            Ok(length) => {
                let element = bytes.get(at..at.checked_add(length)?)?;
                at += length;
                Some(element)
            }
            Err(_) if length == -1 => None,
            Err(_) => return None,
        });
    }
    (at == bytes.len()).then_some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_postgresql_reads_them() {
        let some = |texts: &[&str]| Some(texts.iter().map(|t| (*t != "NULL").then(|| (*t).to_owned())).collect::<Vec<_>>());
        assert_eq!(elements("{}"), some(&[]));
        assert_eq!(elements(" { 1 , 2,null } "), some(&["1", "2", "NULL"]));
        assert_eq!(elements(r#"{"a,b","say \"hi\"","",a b}"#), some(&["a,b", "say \"hi\"", "", "a b"]));
        assert_eq!(elements(r#"{{1,2},{"}"}}"#), some(&["{1,2}", "{\"}\"}"]));
        assert_eq!(elements(r#"{"NULL"}"#), Some(vec![Some("NULL".to_owned())]));
        for text in ["", "1", "{1", "1}", "{1,}", "{,1}", "{\"a}", "{1}2}", "{a\"b}", "{{1}"] {
            assert_eq!(elements(text), None, "{text}");
        }
    }

    #[test]
    fn binary_arrays_have_one_dimension() {
        let words = |words: &[i32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        assert_eq!(from_binary(&words(&[0, 0, 23])), Some(Vec::new()));
        let two = words(&[1, 1, 23, 2, 1, 4, 7, -1]);
        assert_eq!(from_binary(&two), Some(vec![Some(&7_i32.to_be_bytes()[..]), None]));
        assert_eq!(from_binary(&two[..two.len() - 1]), None);
        assert_eq!(from_binary(&words(&[2, 0, 23, 1, 1, 1, 1, 4, 7])), None);
        assert_eq!(from_binary(&words(&[1, 0, 23, i32::MAX, 1])), None);
    }
}
