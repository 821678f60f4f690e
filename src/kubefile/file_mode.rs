//! `--chmod`: permission bits in octal, or changes to those that a file has (chmod(1), as docker takes them).

/// What the mode of files becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Bits(u32),
    /// Changes, one after the other.
    Changes(Vec<Change>),
}

/// `u+x`: for whom, how, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The bits of those it is for.
    who: u32,
    operator: char,
    what: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl Mode {
    /// Reads `0755` or `u=rwX,go-w`; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|char: char| char.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).map(Mode::Bits);
        }
        let changes: Vec<Vec<Change>> = text.split(',').map(clause).collect::<Option<_>>()?;
        Some(Mode::Changes(changes.concat()))
    }

    /// The mode that a file or directory with this one gets.
    pub fn of(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Bits(bits) => *bits,
            Mode::Changes(changes) => changes.iter().fold(mode, |mode, change| change.of(mode, is_dir)),
        }
    }
}

/// `[ugoa…][+-=][rwxXst…]…`; without `ugoa` it is for all.
fn clause(text: &str) -> Option<Vec<Change>> {
    let start = text.find(['+', '-', '='])?;
    let who = text[..start].chars().try_fold(0, |who, char| {
        Some(
            who | match char {
                'u' => USER,
                'g' => GROUP,
                'o' => OTHERS | STICKY,
                'a' => 0o7777,
                _ => return None,
            },
        )
    })?;
    let who = if start == 0 { 0o7777 } else { who };
    let (mut changes, mut rest) = (Vec::new(), &text[start..]);
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |next| next + 1);
        let what = &rest[1..end];
        if !what.chars().all(|char| "rwxXst".contains(char)) {
            return None;
        }
        changes.push(Change { who, operator, what: what.to_owned() });
        rest = &rest[end..];
    }
    Some(changes)
}

impl Change {
    fn of(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = self.what.chars().fold(0, |bits, char| {
            bits | match char {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => STICKY,
                _ => 0,
            }
        });
        match self.operator {
            '+' => mode | bits & self.who,
            '-' => mode & !(bits & self.who),
            _ => mode & !self.who | bits & self.who,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_changes() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o644, false, 0o755),
            ("04711", 0o644, false, 0o4711),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o4755, false, 0o4700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o711, false, 0o755),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("u+s", 0o755, false, 0o4755),
            ("u=rw+x-w", 0o000, false, 0o500),
            ("a=r", 0o7777, false, 0o444),
        ] {
            assert_eq!(Mode::parse(text).unwrap().of(mode, is_dir), expected, "{text} {mode:o}");
        }
        for text in ["", "8", "999", "10000", "u", "x+u", "u+y", "u+x,", "rwx", "u+x,755"] {
            assert_eq!(Mode::parse(text), None, "{text}");
        }
    }
}
