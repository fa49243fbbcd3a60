//! The part of Postgres' wire protocol that is needed to know which statement a client is about to execute.

use std::collections::HashMap;

/// The code in the first message of a session proper. Other codes ask for encryption first, or cancel.
const PROTOCOL_3: i32 = 3 << 16;

/// One message of the client, whole.
pub struct Message {
    pub bytes: Vec<u8>,
    /// The statement that the server executes on this message.
    pub executes: Option<String>,
    /// Whether the client waits for an answer after this message.
    pub ends_request: bool,
}

/// Cuts what a client sends into messages, and remembers which prepared statement is which.
#[derive(Default)]
pub struct ClientSide {
    buffered: Vec<u8>,
    /// Whether the session has begun: until then messages have no type.
    begun: bool,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
}

impl ClientSide {
    /// More bytes from the client.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// The next message, if it is whole.
    pub fn next(&mut self) -> Option<Message> {
        let typed = usize::from(self.begun);
        let length = usize::try_from(number(self.buffered.get(typed..typed + 4)?)).unwrap() + typed;
        if self.buffered.len() < length {
            return None;
        }
        let bytes: Vec<u8> = self.buffered.drain(..length).collect();
        if !self.begun {
            self.begun = number(&bytes[4..8]) == PROTOCOL_3;
            return Some(Message { bytes, executes: None, ends_request: false });
        }
        let (kind, body) = (bytes[0], &bytes[5..]);
        let executes = self.follow(kind, body);
        Some(Message { executes, ends_request: matches!(kind, b'S' | b'Q'), bytes })
    }

    /// Notes names, and tells the statement that is executed.
    fn follow(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        let (first, rest) = text(body);
        match kind {
            b'Q' => return Some(String::from_utf8_lossy(first).into_owned()),
            b'P' => drop(self.statements.insert(first.to_vec(), String::from_utf8_lossy(text(rest).0).into_owned())),
            b'B' => {
                let statement = self.statements.get(text(rest).0)?.clone();
                self.portals.insert(first.to_vec(), statement);
            }
            b'E' => return self.portals.get(first).cloned(),
            _ => {}
        }
        None
    }
}

/// Whether what the server sent so far ends with ReadyForQuery, the end of every answer.
pub fn is_answered(sent: &[u8]) -> bool {
    matches!(sent, [.., b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E'])
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// A text that ends with a zero byte, and what follows it.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
