//! How much of what came is shown in an error: enough to recognise it, and no more, however long it is. Nothing that steers
//! a terminal: what is not shown by `Debug`, which escapes it, goes through [`plain`].

/// So many characters.
const LENGTH: usize = 80;

/// The beginning of some bytes.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let start = bytes.get(..LENGTH).unwrap_or(bytes);
    text(&String::from_utf8_lossy(start))
}

/// The beginning of a text.
pub(crate) fn text(text: &str) -> String {
    text.chars().take(LENGTH).collect()
}

/// The beginning of a text, for an error that shows it as it is.
pub(crate) fn plain(text: &str) -> String {
    text.chars().take(LENGTH).map(|char| if char.is_control() { '\u{FFFD}' } else { char }).collect()
}

/// The first of several texts, and how many more there are.
pub(crate) fn list(texts: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = texts.iter().take(4).map(|each| text(each)).collect();
    if texts.len() > shown.len() {
        shown.push(format!("and {} more", texts.len() - shown.len()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_what_is_short_is_whole() {
        assert_eq!(text("äöü"), "äöü");
        assert_eq!(text(&"ä".repeat(1000)).chars().count(), LENGTH);
        assert_eq!(plain("\x1b[2J\0ä"), "\u{FFFD}[2J\u{FFFD}ä");
        assert_eq!(bytes(&[b'a'; 1000]).len(), LENGTH);
        let many: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        assert_eq!(list(&many), ["0", "1", "2", "3", "and 5 more"]);
        assert_eq!(list(&many[..4]), ["0", "1", "2", "3"]);
    }
}
