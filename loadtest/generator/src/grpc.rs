//! gRPC over HTTP/2, as far as sending prepared bytes and receiving bytes needs it. No message is built or copied twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Version};
use tokio::net::{TcpSocket, TcpStream};

use crate::wire::{Field, Fields, MESSAGE_BYTES_MAX};

const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// How a call ended other than well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason of its `ErrorInfo`; empty: it has none.
    pub reason: String,
    /// What to tell.
    pub text: String,
    /// Milliseconds after which its `RetryInfo` says to try again; 0: it has none.
    pub retry_after_ms: u64,
    /// The server refused the stream before it looked at it (RFC 9113, section 8.7).
    pub is_refused_stream: bool,
}

impl Failure {
    fn of(error: impl Into<Box<dyn std::error::Error>>) -> Self {
        let error = error.into();
        let reason = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        Self { is_refused_stream: reason == Some(h2::Reason::REFUSED_STREAM), ..Self::saying(&error.to_string()) }
    }

    /// Return a failure that nobody has given a reason for.
    #[must_use]
    pub fn saying(text: &str) -> Self {
        Self { reason: String::new(), text: text.to_owned(), retry_after_ms: 0, is_refused_stream: false }
    }

    /// Return whether this says that nothing of the message was handed to any shard (`order_service.proto`).
    #[must_use]
    pub fn says_nothing_was_sent(&self) -> bool {
        !self.reason.is_empty() && self.reason != "INTERNAL"
    }
}

/// A connection.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    address: String,
}

impl Connection {
    /// Connect, from an address of this machine if one is given. The connection is driven on the current `LocalSet`.
    ///
    /// # Errors
    /// Nobody listens there, or it is no HTTP/2.
    pub async fn open(address: &str, source: Option<IpAddr>) -> Result<Self, Failure> {
        let socket = connect(address, source).await.map_err(|error| Failure::of(format!("{address}: {error}")))?;
        socket.set_nodelay(true).map_err(Failure::of)?;
        let (requests, connection) = Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buffer_size(u32::MAX as usize)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(Failure::of)?;
        // How it ends is seen by every call on it.
        tokio::task::spawn_local(connection);
        Ok(Self { requests, address: address.to_owned() })
    }

    /// Begin a call of the order service.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn call(&self, method: &str) -> Result<(Receiver, SendStream<Bytes>), Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{}/clob.v1.OrderService/{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(Failure::of)?;
        let mut requests = self.requests.clone().ready().await.map_err(Failure::of)?;
        let (response, body) = requests.send_request(request, false).map_err(Failure::of)?;
        Ok((Receiver { response: Some(response), body: None, bytes: BytesMut::new() }, body))
    }
}

async fn connect(address: &str, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address).await };
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((source, 0).into())?;
    socket.connect(address.parse().map_err(std::io::Error::other)?).await
}

/// Wait until the server has room for some bytes more of a call.
///
/// # Errors
/// The call or its connection has ended.
pub async fn room(body: &mut SendStream<Bytes>) -> Result<(), Failure> {
    body.reserve_capacity(1);
    match std::future::poll_fn(|context| body.poll_capacity(context)).await {
        Some(capacity) => capacity.map(drop).map_err(Failure::of),
        None => Err(Failure::saying("the call has ended")),
    }
}

/// Send bytes without waiting: what the server does not take yet stays in memory.
///
/// # Errors
/// The call or its connection has ended.
pub fn send(body: &mut SendStream<Bytes>, bytes: Bytes, is_last: bool) -> Result<(), Failure> {
    body.send_data(bytes, is_last).map_err(Failure::of)
}

/// Receives the messages of a call.
pub struct Receiver {
    response: Option<h2::client::ResponseFuture>,
    body: Option<RecvStream>,
    bytes: BytesMut,
}

impl Receiver {
    /// Return the next message; None: the call has ended well.
    ///
    /// # Errors
    /// The call failed, or what comes is no gRPC.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if let Some(response) = self.response.take() {
            let response = response.await.map_err(Failure::of)?;
            if response.status() != 200 {
                return Err(Failure::of(format!("HTTP status {}", response.status())));
            }
            if response.headers().contains_key("grpc-status") {
                return status_of(response.headers()).map(|()| None);
            }
            self.body = Some(response.into_body());
        }
        let body = self.body.as_mut().ok_or_else(|| Failure::of("the call has ended"))?;
        loop {
            if self.bytes.len() >= 5 {
                let len = u32::from_be_bytes([self.bytes[1], self.bytes[2], self.bytes[3], self.bytes[4]]) as usize;
                if self.bytes[0] != 0 || len > MESSAGE_BYTES_MAX {
                    return Err(Failure::of("an answer is compressed or too large"));
                }
                if self.bytes.len() >= 5 + len {
                    self.bytes.advance(5);
                    return Ok(Some(self.bytes.split_to(len).freeze()));
                }
                self.bytes.reserve(5 + len - self.bytes.len());
            }
            match body.data().await {
                Some(data) => {
                    let data = data.map_err(Failure::of)?;
                    body.flow_control().release_capacity(data.len()).map_err(Failure::of)?;
                    self.bytes.extend_from_slice(&data);
                }
                None => break,
            }
        }
        if !self.bytes.is_empty() {
            return Err(Failure::of("the call ended within a message"));
        }
        match body.trailers().await.map_err(Failure::of)? {
            Some(trailers) => status_of(&trailers).map(|()| None),
            None => Err(Failure::of("the call ended without a status")),
        }
    }
}

fn status_of(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let status = text("grpc-status").unwrap_or_else(|| "none".to_owned());
    if status == "0" {
        return Ok(());
    }
    let details = text("grpc-status-details-bin").and_then(|details| base64(&details)).unwrap_or_default();
    let (reason, retry_after_ms) = (reason_of(&details).unwrap_or_default(), retry_after_ms(&details).unwrap_or(0));
    let message = text("grpc-message").unwrap_or_default().replace("%20", " ");
    Err(Failure { reason, retry_after_ms, ..Failure::saying(&format!("gRPC status {status}: {message}")) })
}

/// Return the reason of the `ErrorInfo` in a `google.rpc.Status`.
fn reason_of(status: &[u8]) -> Option<String> {
    let info = detail_of(status, b"/google.rpc.ErrorInfo")?;
    Some(String::from_utf8_lossy(bytes_of(info).get(&1)?).into_owned())
}

/// Return the delay of the `RetryInfo` in a `google.rpc.Status`.
fn retry_after_ms(status: &[u8]) -> Option<u64> {
    let info = detail_of(status, b"/google.rpc.RetryInfo")?;
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(bytes_of(info).get(&1)?) {
        match field.ok()? {
            Field::Number(1, value) => seconds = value,
            Field::Number(2, value) => nanos = value,
            _ => {}
        }
    }
    Some(seconds * 1_000 + nanos / 1_000_000)
}

fn detail_of<'a>(status: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    for detail in Fields::new(status) {
        let Field::Bytes(3, any) = detail.ok()? else { continue };
        let parts = bytes_of(any);
        if parts.get(&1).is_some_and(|found| found.ends_with(name)) {
            return parts.get(&2).copied();
        }
    }
    None
}

fn bytes_of(message: &[u8]) -> BTreeMap<u32, &[u8]> {
    let pairs = Fields::new(message).filter_map(|field| match field {
        Ok(Field::Bytes(number, value)) => Some((number, value)),
        _ => None,
    });
    pairs.collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_bytes;

    #[test]
    fn the_reason_of_a_failed_call_is_found() {
        let (mut info, mut any, mut status) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut info, 1, b"OVERLOADED");
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.ErrorInfo");
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut status, 2, b"later");
        put_bytes(&mut status, 3, &any);
        assert_eq!(reason_of(&status), Some("OVERLOADED".into()));
        assert_eq!(reason_of(&status[..9]), None);
        assert_eq!(retry_after_ms(&status), None);
        let (mut delay, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut delay, 15, b"");
        delay.splice(.., [0x08, 0x01, 0x10, 0x80, 0x84, 0xaf, 0x5f]);
        put_bytes(&mut info, 1, &delay);
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut status, 3, &any);
        assert_eq!((reason_of(&status), retry_after_ms(&status)), (Some("OVERLOADED".into()), Some(1_200)));
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(base64("AAECAwT/"), Some(vec![0, 1, 2, 3, 4, 255]));
        assert_eq!(base64("AAE="), Some(vec![0, 1]));
        assert_eq!(base64("AAE"), Some(vec![0, 1]));
        assert_eq!(base64("A*"), None);
    }
}
