//! One request after the other, each with its answer.

use std::fmt::Display;
use std::io;
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
    NetlinkBuffer, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::NetlinkError;

/// The kernel fills 32 KiB at most with one part of a list.
pub(super) const BUFFER: usize = 64 * 1024;
/// `MSG_TRUNC`: tells the true length of what did not fit.
pub(super) const MSG_TRUNC: i32 = 0x20;
/// `NLMSGERR_ATTR_MSG`.
const ATTR_MESSAGE: u16 = 1;
/// A list that changes while it is read is read again, on a busy node more than once.
const ATTEMPTS: usize = 20;

/// A connection to the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink(Mutex<Connection>);

#[derive(Debug)]
struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A request failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub source: io::Error,
    pub hint: String,
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self { source, hint: String::new() }
    }
}

/// A message of an answer, by its type (`RTM_NEWLINK`, …).
pub(super) type Message = (u16, Vec<u8>);

impl Netlink {
    /// Connects.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Both are younger than the oldest kernels that we run on, and we do without.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(Connection { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
        };
        open().map(|connection| Self(Mutex::new(connection))).map_err(NetlinkError::Open)
    }

    /// Changes something of a link.
    pub(super) fn change(
        &self,
        operation: impl Into<String>,
        link: &impl Display,
        message: &RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.send(operation, link, message.message_type(), &payload(message), flags)
    }

    /// [`Self::change`] with a message that is bytes already.
    pub(super) fn send(
        &self,
        operation: impl Into<String>,
        link: &impl Display,
        kind: u16,
        payload: &[u8],
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let answer = self.exchange(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload);
        let refused = |Failure { source, hint }| NetlinkError::Refused {
            operation: operation.into(),
            link: link.to_string(),
            source,
            hint,
        };
        answer.map(|_| ()).map_err(refused)
    }

    /// Asks a question with one answer.
    pub(super) fn ask(&self, message: &RouteNetlinkMessage) -> Result<Vec<Message>, Failure> {
        self.exchange(message.message_type(), NLM_F_REQUEST | NLM_F_ACK, &payload(message))
            .map(|answer| answer.messages)
    }

    /// Reads a whole list.
    pub(super) fn list(
        &self,
        what: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<Message>, NetlinkError> {
        let payload = payload(message);
        for _ in 0..ATTEMPTS {
            match self.exchange(message.message_type(), NLM_F_REQUEST | NLM_F_DUMP, &payload) {
                Ok(answer) if !answer.interrupted => return Ok(answer.messages),
                Ok(_) => {}
                Err(Failure { source, .. }) => return Err(NetlinkError::Read { what, source }),
            }
        }
        Err(NetlinkError::Restless { what })
    }

    fn exchange(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<Answer, Failure> {
        // Whoever panicked left at worst a late answer behind, which its number tells from ours.
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.exchange(kind, flags, payload)
    }
}

#[derive(Debug, Default)]
struct Answer {
    messages: Vec<Message>,
    interrupted: bool,
}

impl Connection {
    fn exchange(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Result<Answer, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(header.buffer_len() + payload.len()).unwrap_or(u32::MAX);
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = vec![0; header.buffer_len()];
        header.emit(&mut request);
        request.extend_from_slice(payload);
        self.socket.send(&request, 0)?;
        let mut answer = Answer::default();
        loop {
            self.buffer.clear();
            let length = match self.socket.recv(&mut self.buffer, MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if length > self.buffer.len() {
                return Err(garbled("an answer did not fit into its buffer"));
            }
            if self.take(&mut answer)? {
                return Ok(answer);
            }
        }
    }

    /// Takes what was received. Says whether that was the end.
    fn take(&self, answer: &mut Answer) -> Result<bool, Failure> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|error| garbled(error.to_string()))?;
            let length = message.length() as usize;
            let payload = message.payload();
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.sequence_number() != self.sequence {
                continue;
            }
            answer.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_ERROR => return outcome(payload).map(|()| true),
                NLMSG_DONE => return outcome(payload).map(|()| true),
                NLMSG_OVERRUN => return Err(garbled("an answer was lost")),
                kind => answer.messages.push((kind, payload.to_vec())),
            }
        }
        Ok(false)
    }
}

/// What `NLMSG_ERROR` and `NLMSG_DONE` say: an error number, and perhaps the reason in words.
fn outcome(payload: &[u8]) -> Result<(), Failure> {
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    // The header of our request is between the number and the words.
    let words = payload.get(20..).unwrap_or_default();
    let hint = NlasIterator::new(words).map_while(Result::ok).find(|nla| nla.kind() == ATTR_MESSAGE);
    let hint = hint.map(|nla| text(nla.value())).unwrap_or_default();
    Err(Failure { source: io::Error::from_raw_os_error(code.saturating_neg()), hint })
}

fn garbled(why: impl Into<String>) -> Failure {
    io::Error::new(io::ErrorKind::InvalidData, why.into()).into()
}

/// Text as the kernel writes it, with a zero at its end.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn payload(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut payload = vec![0; NetlinkSerializable::buffer_len(message)];
    message.serialize(&mut payload);
    payload
}
