//! Cursor texts: what is taken is what the grammar takes, one position has one text, and texts sort as their positions do.

use galaxy_push_core::cursor::{CURSOR_TEXT_MAX, Cursor, Epoch, Seq, StartFrom};

/// Two texts, one a line; and, where there are enough bytes, two positions made of them.
pub fn cursor(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let (first, second) = text.split_once('\n').unwrap_or((text, ""));
        if let (Some(a), Some(b)) = (read(first), read(second))
            && a.epoch == b.epoch
        {
            assert_eq!(a.seq.cmp(&b.seq), first.cmp(second), "texts sort otherwise than positions");
        }
    }
    if let Some((epoch, rest)) = data.split_first_chunk::<16>()
        && let Some((one, rest)) = rest.split_first_chunk::<8>()
        && let Some((other, _)) = rest.split_first_chunk::<8>()
    {
        let epoch = Epoch(u128::from_be_bytes(*epoch));
        let at = |seq: &[u8; 8]| Cursor { epoch, seq: Seq(u64::from_be_bytes(*seq)) };
        let (one, other) = (at(one), at(other));
        let (text, other_text) = (one.to_string(), other.to_string());
        assert_eq!(StartFrom::parse(&text), Ok(StartFrom::At(one)), "{text}");
        assert_eq!(one.seq.cmp(&other.seq), text.cmp(&other_text), "{text} and {other_text}");
        assert_eq!(one.seq.to_string(), text.rsplit('.').next().unwrap_or_default());
    }
}

/// Reads a text, and compares with the grammar as DESIGN says it.
fn read(text: &str) -> Option<Cursor> {
    let ask = StartFrom::parse(text);
    let of_grammar = (1..=CURSOR_TEXT_MAX).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match ask {
        Ok(StartFrom::Head) => assert_eq!(text, ""),
        Ok(StartFrom::Oldest) => assert_eq!(text, "oldest"),
        Ok(StartFrom::At(at)) => {
            assert!(of_grammar && is_canonical(text), "{text:?} was taken");
            assert_eq!(at.to_string(), text, "another text of the same position was taken");
            assert_eq!(Cursor::parse(text), Ok(at));
            return Some(at);
        }
        Ok(StartFrom::Foreign) => {
            assert!(of_grammar && text.split('.').next() != Some("2"), "{text:?} is ours")
        }
        Ok(StartFrom::Unreadable) => panic!("{text:?}: nobody asked for that"),
        Err(_) => {
            let foreign = of_grammar && text.split('.').next() != Some("2");
            assert!(
                !is_canonical(text) && !foreign && !text.is_empty() && text != "oldest",
                "{text:?} was refused"
            );
            assert_eq!(StartFrom::parse_or_unreadable(text), StartFrom::Unreadable);
        }
    }
    None
}

/// `2.<epoch>.<letter><decimal>`, once more and otherwise.
fn is_canonical(text: &str) -> bool {
    let [version, epoch, seq] = text.split('.').collect::<Vec<_>>()[..] else { return false };
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if version != "2"
        || epoch.chars().count() != 22
        || !epoch.chars().all(is_base64)
        || !epoch.ends_with(['A', 'Q', 'g', 'w'])
    {
        return false;
    }
    let mut seq = seq.chars();
    let Some(letter) = seq.next() else { return false };
    let digits = seq.as_str();
    let has_length = letter as usize == 'a' as usize - 1 + digits.len();
    has_length
        && digits.chars().all(|c| c.is_ascii_digit())
        && (digits.len() == 1 || digits.len() > 1 && !digits.starts_with('0'))
        && (digits.len() < 20 || digits.len() == 20 && digits <= "18446744073709551615")
}
