//! Modbus RTU as bytes: writes requests, and finds the answer in whatever a bus delivers.
//!
//! RTU has no length in front, no transaction id and no mark where a frame begins. A [`Listener`]
//! therefore knows the request it waits for: an answer is complete when it has the length that
//! the request demands, not when the line falls silent, and nothing but an answer to that request,
//! from that unit, of that length and with a true checksum is ever taken for it. Everything else
//! (other units' frames, late frames, echoes, noise) is stepped over and counted. It never
//! panics, never holds more than one frame, and takes bytes in pieces of any size.
//!
//! What it cannot tell apart is a late answer of the same unit to an equal request; who asks must
//! leave a unit alone that was silent.

use crate::profile::Table;

/// The longest frame (Modbus over serial line 1.02, 2.5.1).
pub const FRAME_MAX: usize = 256;
/// Address, function and checksum of a frame.
const AROUND: usize = 4;
/// Of the checksum, lowest bit first (Modbus over serial line 1.02, appendix B).
const POLYNOMIAL: u16 = 0b1010_0000_0000_0001;
/// Set in the function of a refusal.
const REFUSED: u8 = 0x80;
/// What a coil is set to, as the standard spells 1.
const COIL_ON: [u8; 2] = [0xff, 0];

/// What is asked of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask<'a> {
    Read {
        table: Table,
        first: u16,
        count: u16,
    },
    /// Coils (each value 0 or 1; one by function 5, more by 15, at most 1,968) or, in any other
    /// table, registers (one by function 6, more by 16, at most 123).
    Write {
        table: Table,
        first: u16,
        values: &'a [u16],
    },
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Bits(Vec<bool>),
    Words(Vec<u16>),
    Written,
    Exception(u8),
}

/// What was stepped over while waiting.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Heard {
    /// Whole frames of other units.
    pub foreign: u32,
    /// Whole frames of the unit that do not answer the request: of another function or length.
    pub misfits: u32,
    /// Our own request, given back by an adapter that hears itself.
    pub echoes: u32,
    /// Bytes of no frame, those of a frame cut short included.
    pub noise: u32,
}

/// The frame of a request.
pub fn encode(address: u8, ask: Ask<'_>) -> Vec<u8> {
    let mut frame = vec![address, function(ask)];
    match ask {
        Ask::Read { first, count, .. } => {
            frame.extend(first.to_be_bytes());
            frame.extend(count.to_be_bytes());
        }
        Ask::Write { table, first, values: [value] } => {
            frame.extend(first.to_be_bytes());
            match (table.is_bits(), value) {
                (true, 0) => frame.extend([0, 0]),
                (true, _) => frame.extend(COIL_ON),
                (false, value) => frame.extend(value.to_be_bytes()),
            }
        }
        Ask::Write { table, first, values } => {
            frame.extend(first.to_be_bytes());
            // More than fits a frame is never asked for; if it were, the unit would refuse it.
            let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
            frame.extend(count.to_be_bytes());
            frame.push(data_len(table, count) as u8);
            if table.is_bits() {
                let bits = |eight: &[u16]| {
                    eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit != 0))
                };
                frame.extend(values.chunks(8).map(bits));
            } else {
                frame.extend(values.iter().flat_map(|value| value.to_be_bytes()));
            }
        }
    }
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// Function codes (Modbus application protocol 1.1b3, 6).
fn function(ask: Ask<'_>) -> u8 {
    match ask {
        Ask::Read { table: Table::Coil, .. } => 1,
        Ask::Read { table: Table::Discrete, .. } => 2,
        Ask::Read { table: Table::Holding, .. } => 3,
        Ask::Read { table: Table::Input, .. } => 4,
        Ask::Write { table, values: [_], .. } if table.is_bits() => 5,
        Ask::Write { values: [_], .. } => 6,
        Ask::Write { table, .. } if table.is_bits() => 15,
        Ask::Write { .. } => 16,
    }
}

/// How many bytes an answer that is no refusal has.
pub fn answer_len(ask: Ask<'_>) -> usize {
    match ask {
        Ask::Read { table, count, .. } => AROUND + 1 + data_len(table, count),
        Ask::Write { .. } => 8,
    }
}

fn data_len(table: Table, count: u16) -> usize {
    let count = usize::from(count);
    if table.is_bits() { count.div_ceil(8) } else { count * 2 }
}

/// The checksum of a frame; on the wire its low byte goes first.
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(u16::MAX, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| {
            if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
        })
    })
}

/// Whether a frame's checksum is true.
fn sound(frame: &[u8]) -> bool {
    // The remainder over a frame and its own checksum is 0.
    frame.len() >= AROUND && crc(frame) == 0
}

/// Waits for the answer to one request.
#[derive(Clone, Debug)]
pub struct Listener<'a> {
    address: u8,
    ask: Ask<'a>,
    request: Vec<u8>,
    /// What may still become a frame; at most one frame.
    buffer: Vec<u8>,
    heard: Heard,
}

/// What stands at the beginning of some bytes.
enum Front {
    /// A sound frame of this length.
    Frame(usize),
    /// Perhaps the beginning of a frame.
    Open,
    Noise,
}

impl<'a> Listener<'a> {
    pub fn new(address: u8, ask: Ask<'a>) -> Listener<'a> {
        let request = encode(address, ask);
        Listener { address, ask, request, buffer: Vec::new(), heard: Heard::default() }
    }

    /// What was stepped over so far; what may still become a frame counts as noise.
    pub fn heard(&self) -> Heard {
        let open = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        Heard { noise: self.heard.noise.saturating_add(open), ..self.heard }
    }

    /// Takes what came next; gives the answer when it is whole. What follows it is dropped.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Answer> {
        // A part at a time, so that the buffer stays small whatever is delivered at once.
        bytes.chunks(FRAME_MAX).find_map(|part| self.take_part(part))
    }

    fn take_part(&mut self, part: &[u8]) -> Option<Answer> {
        self.buffer.extend_from_slice(part);
        // At every place: what seems to begin a frame before it must not hold the answer back.
        let found =
            (0..self.buffer.len()).find_map(|at| Some((at, self.answer_at(&self.buffer[at..])?)));
        if let Some((at, answer)) = found {
            self.buffer.truncate(at);
            self.step_over();
            let left = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
            self.heard.noise = self.heard.noise.saturating_add(left);
            self.buffer.clear();
            return Some(answer);
        }
        self.step_over();
        None
    }

    /// The answer, where these bytes begin with it.
    fn answer_at(&self, bytes: &[u8]) -> Option<Answer> {
        let (&[address, function], rest) = bytes.split_first_chunk()?;
        let asked = self.request[1];
        if address != self.address || function & !REFUSED != asked {
            return None;
        }
        if function == asked | REFUSED {
            let code = *rest.first()?;
            return sound(bytes.get(..AROUND + 1)?).then_some(Answer::Exception(code));
        }
        let frame = bytes.get(..answer_len(self.ask))?;
        let (head, data) = (&frame[2..], &frame[3..frame.len() - 2]);
        match self.ask {
            Ask::Read { table, count, .. } => {
                let fits = usize::from(head[0]) == data_len(table, count);
                (fits && sound(frame)).then(|| items(table, count, data))
            }
            // Address and value, or address and count, as they were sent.
            Ask::Write { .. } => {
                (head[..4] == self.request[2..6] && sound(frame)).then_some(Answer::Written)
            }
        }
    }

    /// Drops from the front what is no beginning of a frame, and counts it.
    fn step_over(&mut self) {
        let mut at = 0;
        while at < self.buffer.len() {
            match self.front(&self.buffer[at..]) {
                Front::Open => break,
                Front::Noise => {
                    self.heard.noise = self.heard.noise.saturating_add(1);
                    at += 1;
                }
                Front::Frame(length) => {
                    let frame = &self.buffer[at..at + length];
                    let counter = if frame == self.request {
                        &mut self.heard.echoes
                    } else if frame[0] == self.address {
                        &mut self.heard.misfits
                    } else {
                        &mut self.heard.foreign
                    };
                    *counter = counter.saturating_add(1);
                    at += length;
                }
            }
        }
        self.buffer.drain(..at);
    }

    fn front(&self, bytes: &[u8]) -> Front {
        let [_, function, rest @ ..] = bytes else { return Front::Open };
        let said = rest.first().map(|said| usize::from(*said));
        // An answer with data, an answer or request without, our own request.
        let lengths = match function {
            1..=4 => [said.map_or(FRAME_MAX, |said| said + AROUND + 1), 8, 8],
            5 | 6 => [8, 8, 8],
            15 | 16 => [8, 8, self.request.len()],
            function if function & REFUSED != 0 => [AROUND + 1; 3],
            _ => return Front::Noise,
        };
        let lengths = lengths.into_iter().filter(|length| *length <= FRAME_MAX);
        let mut open = false;
        for length in lengths {
            match bytes.get(..length) {
                Some(frame) if sound(frame) => return Front::Frame(length),
                Some(_) => (),
                None => open = true,
            }
        }
        if open { Front::Open } else { Front::Noise }
    }
}

fn items(table: Table, count: u16, data: &[u8]) -> Answer {
    if table.is_bits() {
        let bit = |n: usize| data[n / 8] >> (n % 8) & 1 == 1;
        return Answer::Bits((0..usize::from(count)).map(bit).collect());
    }
    Answer::Words(data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
}

#[cfg(test)]
mod tests;
