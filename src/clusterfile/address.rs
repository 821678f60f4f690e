//! Lists of host addresses: `10.0.0.2,10.0.0.10-10.0.0.19`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many addresses one range may have; a longer one is a slip of the pen.
const MAX_RANGE: u128 = 4096;

/// The addresses of a list, as on the command line: separated by commas, each an address or a range.
///
/// The messages are Sealer's, so that its users find the same words.
pub fn parse_list(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        addresses.extend(parse_item(item)?);
    }
    Ok(addresses)
}

/// The addresses of one item: an address, or a range `first-last`.
pub fn parse_item(text: &str) -> Result<Vec<IpAddr>, String> {
    let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| format!("`{}` is not an IP address", text.trim()));
    let Some((first, last)) = text.split_once('-') else {
        return address(text).map(|address| vec![address]);
    };
    if last.contains('-') {
        return Err(format!("`{text}` is not a range of addresses: write `first-last`"));
    }
    let (first, last) = (address(first)?, address(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(format!("`{text}` is a range between two address families"));
    }
    let (from, to) = (number(first), number(last));
    if from > to {
        return Err(format!("`{first}` comes after `{last}`: write the lower address first"));
    }
    if to - from >= MAX_RANGE {
        return Err(format!("`{text}` is a range of more than {MAX_RANGE} addresses"));
    }
    Ok((from..=to).map(|number| numbered(number, first)).collect())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address with a number, of the same family as another.
fn numbered(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_expand() {
        let cases = [
            ("10.0.0.2", "10.0.0.2"),
            ("10.0.0.2, 10.0.0.4-10.0.0.6,", "10.0.0.2 10.0.0.4 10.0.0.5 10.0.0.6"),
            ("10.0.0.255-10.0.1.1", "10.0.0.255 10.0.1.0 10.0.1.1"),
            ("fd00::a-fd00::b", "fd00::a fd00::b"),
            ("", ""),
        ];
        for (text, expected) in cases {
            let found: Vec<String> = parse_list(text).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn wrong_items_are_named() {
        let cases = [
            ("10.0.0", "`10.0.0` is not an IP address"),
            ("10.0.0.5-10.0.0.1", "`10.0.0.5` comes after `10.0.0.1`"),
            ("10.0.0.1-10.0.0.2-10.0.0.3", "is not a range of addresses"),
            ("10.0.0.1-fd00::1", "two address families"),
            ("10.0.0.0-10.255.0.0", "more than 4096"),
            ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "more than 4096"),
        ];
        for (text, expected) in cases {
            let message = parse_list(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
