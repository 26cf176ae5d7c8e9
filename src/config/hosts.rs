//! Host names in settings, normalized for comparison: lower case, no final dot,
//! IPv6 in brackets.

use std::net::Ipv6Addr;

/// The limits of DNS: a whole name, and one label.
const MAX_HOST_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Why a name is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    /// Not a valid `Host` header.
    #[error(
        "allowed_hosts {0:?} is not a host: use a name such as kindler.example.org or an address, \
         optionally with :PORT; no scheme, no path, no '*', no empty item between commas"
    )]
    Host(String),
    /// Not a DNS name.
    #[error(
        "base_domain {0:?} is not a domain: use a name such as kindler.example.org, without \
         scheme, port, path or '*'"
    )]
    Domain(String),
}

/// Parses a `Host`: a name or an address, with an optional port.
pub(super) fn host(text: &str) -> Result<String, HostError> {
    let rejected = || HostError::Host(text.chars().take(80).collect());
    let given = text.trim();
    if let Ok(address) = given.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (host, port) = match given.rsplit_once(':') {
        Some((host, port)) if !given.ends_with(']') => {
            let port: u16 = port.parse().map_err(|_| rejected())?;
            (host, format!(":{port}"))
        }
        _ => (given, String::new()),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare
            .parse::<Ipv6Addr>()
            .map(|address| format!("[{address}]"))
            .ok(),
        None => name(host),
    };
    host.map(|host| host + &port).ok_or_else(rejected)
}

/// Parses a domain.
pub(super) fn domain(text: &str) -> Result<String, HostError> {
    name(text.trim()).ok_or_else(|| HostError::Domain(text.chars().take(80).collect()))
}

/// A DNS name, or a container name, which may contain `_`.
fn name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let part = |part: &str| {
        (1..=MAX_LABEL).contains(&part.len())
            && part.chars().all(fits)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    (name.len() <= MAX_HOST_NAME && name.split('.').all(part)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalized() {
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
            let message = host(bad).unwrap_err().to_string();
            let named = format!("allowed_hosts {bad:?} is not a host");
            assert!(message.starts_with(&named), "{message}");
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
            let message = domain(bad).unwrap_err().to_string();
            assert!(
                message.contains("base_domain") && message.contains("is not a domain"),
                "{message}"
            );
        }
    }
}
