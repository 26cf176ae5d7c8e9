//! Names of servers as settings, in the one form in which they are compared:
//! lower case, without a dot at the end, IPv6 in brackets.

use std::net::Ipv6Addr;

/// The longest name that DNS knows, and the longest part of one.
const LONGEST_NAME: usize = 253;
const LONGEST_PART: usize = 63;

/// Why a name is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    /// Not what stands in a `Host`.
    #[error(
        "allowed_hosts {0:?} is not a host: use a name such as kindler.example.org or an address, \
         with :PORT at most; no scheme, no path, no '*', and nothing empty between commas"
    )]
    Host(String),
    /// Not a name of DNS.
    #[error(
        "base_domain {0:?} is not a domain: use a name such as kindler.example.org, without \
         scheme, port, path or '*'"
    )]
    Domain(String),
}

/// Reads what a `Host` may be: a name or an address, maybe with a port.
pub(super) fn host(text: &str) -> Result<String, HostError> {
    let refused = || HostError::Host(text.chars().take(80).collect());
    let given = text.trim();
    if let Ok(address) = given.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (called, port) = match given.rsplit_once(':') {
        Some((called, port)) if !given.ends_with(']') => {
            let port: u16 = port.parse().map_err(|_| refused())?;
            (called, format!(":{port}"))
        }
        _ => (given, String::new()),
    };
    let bare = called
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let called = match bare {
        Some(bare) => bare
            .parse::<Ipv6Addr>()
            .map(|address| format!("[{address}]"))
            .ok(),
        None => name(called),
    };
    called.map(|called| called + &port).ok_or_else(refused)
}

/// Reads a domain, below which other names are.
pub(super) fn domain(text: &str) -> Result<String, HostError> {
    name(text.trim()).ok_or_else(|| HostError::Domain(text.chars().take(80).collect()))
}

/// A name of DNS, or of a container, whose names may hold `_`.
fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let part = |part: &str| {
        (1..=LONGEST_PART).contains(&part.len())
            && part.chars().all(fits)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    (name.len() <= LONGEST_NAME && name.split('.').all(part)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_one_form() {
        for (given, read) in [
            ("kindler.example.org", "kindler.example.org"),
            (" Kindler.Example.ORG. ", "kindler.example.org"),
            ("ops:8443", "ops:8443"),
            ("Ops.:8443", "ops:8443"),
            ("my_container", "my_container"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:DB8:0::7]:80", "[2001:db8::7]:80"),
            ("[2001:db8::7]", "[2001:db8::7]"),
            ("2001:db8::7", "[2001:db8::7]"),
        ] {
            assert_eq!(host(given).unwrap(), read, "{given}");
        }
        let long = "x".repeat(64);
        for bad in [
            "",
            " ",
            ".",
            "*",
            "*.example.org",
            "https://x",
            "x/",
            "x/y",
            "x y",
            "x..y",
            "-x",
            "x:",
            "x:http",
            "x:70000",
            ":80",
            "[::1",
            "[x]",
            "a:b:1",
            "ü.example.org",
            &long,
        ] {
            let told = host(bad).unwrap_err().to_string();
            let named = format!("allowed_hosts {bad:?} is not a host");
            assert!(told.starts_with(&named), "{told}");
        }
    }

    #[test]
    fn domains_have_no_port_and_no_scheme() {
        for (given, read) in [
            ("localhost", "localhost"),
            (" Example.org. ", "example.org"),
            ("192.168.51.30.nip.io", "192.168.51.30.nip.io"),
        ] {
            assert_eq!(domain(given).unwrap(), read);
        }
        for bad in ["", "http://x y", "x:80", "*.x", "x/", "[::1]"] {
            let told = domain(bad).unwrap_err().to_string();
            assert!(
                told.contains("base_domain") && told.contains("is not a domain"),
                "{told}"
            );
        }
    }
}
