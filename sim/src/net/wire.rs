//! What a process and the server say to each other: frames of a length and JSON.

use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Result};
use tokio::io::AsyncReadExt;
use tourbillon_models::history::{PlainOp, PlainReply};
use tourbillon_models::name::Xid;
use turmoil::net::TcpStream;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame {
    /// The first of each connection: who it is, and which connection of his.
    Hello {
        process: u8,
        incarnation: u8,
        number: u32,
    },
    Call(PlainOp),
    Reply(PlainReply, Xid),
    /// Are you there?
    Ping,
    Pong,
}

/// Four bytes of length.
const HEAD: usize = 4;

/// One end of a connection.
pub(super) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Wire {
        Wire { stream, received: Vec::new() }
    }

    /// Does not wait: a connection on which nobody has read for so long is as good as gone.
    pub(super) fn send(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = vec![0; HEAD];
        serde_json::to_writer(&mut bytes, frame)?;
        let length = (bytes.len() - HEAD) as u32;
        bytes[..HEAD].copy_from_slice(&length.to_be_bytes());
        self.stream.try_write(&bytes).map(|written| assert_eq!(written, bytes.len(), "a frame is sent whole"))
    }

    /// The next frame. May be given up at any time, and asked again.
    pub(super) async fn receive(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
        }
    }

    fn take(&mut self) -> Result<Option<Frame>> {
        let Some(head) = self.received.first_chunk::<HEAD>() else { return Ok(None) };
        let end = HEAD + u32::from_be_bytes(*head) as usize;
        let Some(body) = self.received.get(HEAD..end) else { return Ok(None) };
        let frame = serde_json::from_slice(body)?;
        self.received.drain(..end);
        Ok(Some(frame))
    }
}
