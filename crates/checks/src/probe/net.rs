//! A TCP port accepts connections. Names are not resolved: a static program must not rely on NSS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Budget, Finding};

pub(crate) fn look_at_port(host: &str, port: u16, budget: Budget) -> Finding {
    let Some(addresses) = addresses(host) else { return unresolved(host) };
    match connect(&addresses, port, budget.one_look()) {
        Ok(_) => Finding::Holds,
        Err(error) => Finding::image(format!("cannot connect to {host}:{port}: {error}"), Vec::new()),
    }
}

pub(crate) fn unresolved(host: &str) -> Finding {
    Finding::check(format!(
        "invalid host `{host}`: not `localhost` or an IP address (the check runner does not resolve names)"
    ))
}

/// The addresses of a host, which is `localhost` or an IP address.
pub(crate) fn addresses(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|address| vec![address])
}

/// Connects to the first address that accepts.
pub(crate) fn connect(addresses: &[IpAddr], port: u16, budget: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + budget;
    let mut first = None;
    for &address in addresses {
        // The standard library rejects a timeout of zero.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), left) {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use edgewright_model::outcome::FailureKind;

    use super::*;

    #[test]
    fn cases() {
        let budget = Budget::new(Duration::from_secs(5), 1.0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look_at_port("127.0.0.1", port, budget), Finding::Holds);
        assert_eq!(look_at_port("localhost", port, budget), Finding::Holds);
        drop(listener);
        assert!(matches!(look_at_port("127.0.0.1", port, budget),
            Finding::Misses(miss) if miss.kind == FailureKind::Image && !miss.is_final));
        assert!(matches!(look_at_port("plc.example", 80, budget),
            Finding::Misses(miss) if miss.kind == FailureKind::Check && miss.is_final));
    }
}
