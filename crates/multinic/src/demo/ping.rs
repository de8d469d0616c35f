//! An ICMP echo from a given address: the proof that a NIC carries traffic.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, Socket, Type};

/// How long an answer may take. A new IPv6 address is of no use for a second or two, while the kernel looks for another
/// host that has it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one request is waited for before the next is sent.
const RESEND: Duration = Duration::from_millis(200);

/// Sends echo requests until one is answered; says how long that answer took. Needs `CAP_NET_RAW` in the namespace of
/// the calling thread.
pub fn ping(from: IpAddr, to: IpAddr) -> anyhow::Result<Duration> {
    let (domain, protocol, request, reply, header) = match to {
        // RFC 792: types 8 and 0. A raw IPv4 socket hands over the IP header of 20 bytes too.
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0, 20),
        // RFC 4443: types 128 and 129. A raw IPv6 socket does not, and its kernel fills in the checksum.
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129, 0),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).context("cannot open an ICMP socket")?;
    socket.set_read_timeout(Some(RESEND))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // An address that is still being looked for cannot be bound to yet.
        if socket.bind(&SocketAddr::new(from, 0).into()).is_err() {
            std::thread::sleep(RESEND / 4);
            continue;
        }
        let mark: [u8; 8] = rand::random();
        let started = Instant::now();
        let sent = socket.send_to(&echo(request, mark, to.is_ipv4()), &SocketAddr::new(to, 0).into());
        sent.with_context(|| format!("cannot send to {to}"))?;
        let mut buffer = [0; 256];
        while let Ok(length) = socket.read(&mut buffer) {
            let answer = buffer.get(header..length).unwrap_or_default();
            if answer.first() == Some(&reply) && answer.ends_with(&mark) {
                return Ok(started.elapsed());
            }
            if started.elapsed() > RESEND {
                break;
            }
        }
    }
    bail!("{to} did not answer {from} within {} s", PATIENCE.as_secs())
}

fn echo(kind: u8, mark: [u8; 8], with_checksum: bool) -> Vec<u8> {
    let packet = |checksum: [u8; 2]| [[kind, 0].as_slice(), &checksum, &[0, 1, 0, 1], &mark].concat();
    let plain = packet([0, 0]);
    if with_checksum { packet(checksum(&plain).to_be_bytes()) } else { plain }
}

/// RFC 1071: the one's complement of the one's complement sum of 16-bit words.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_to_zero() {
        assert_eq!(checksum(&echo(8, *b"multinic", true)), 0);
    }
}
