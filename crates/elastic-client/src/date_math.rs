//! Date math: the arithmetic that servers apply to an instant, such as `-1h/d` after `now`.
//!
//! Owns: its grammar. Must not know: queries or indices.

const UNITS: &[char] = &['y', 'M', 'w', 'd', 'h', 'H', 'm', 's'];

/// Returns how many bytes at the start of `text` are date math.
pub(crate) fn math_length(text: &str) -> usize {
    let mut length = 0;
    while let Some(step) = step_length(&text[length..]) {
        length += step;
    }
    length
}

/// Returns whether all of `text` is date math. An empty text is.
pub(crate) fn is_math(text: &str) -> bool {
    math_length(text) == text.len()
}

/// Returns the length of one step, such as `-1h`, `+d` or `/d`, in bytes.
fn step_length(text: &str) -> Option<usize> {
    let operator = text.chars().next().filter(|c| ['+', '-', '/'].contains(c))?;
    let digits = match operator {
        '/' => 0,
        _ => text[1..].bytes().take_while(u8::is_ascii_digit).count(),
    };
    text[1 + digits..].starts_with(UNITS).then_some(digits + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn math_is_steps_of_an_operator_and_a_unit() {
        for (text, length) in [
            ("", 0),
            ("-1h", 3),
            ("-1h/d", 5),
            ("+d", 2),
            ("/d", 2),
            ("-15m rest", 4),
            ("-famous", 0),
            ("-1", 0),
            ("/1d", 0),
            ("-1h-é", 3),
        ] {
            assert_eq!(math_length(text), length, "{text}");
        }
        assert!(is_math("") && is_math("-1M/M") && !is_math("-1M/"));
    }
}
