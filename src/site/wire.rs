//! What a line runs over, and how long bytes take on it.
//!
//! Pure values: `field` opens what they name. On RTU lines there is neither a transaction id nor a
//! length in front, so the silence between frames and the time a frame takes are part of the
//! protocol, and both follow from the [`Framing`].

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// From this speed on the silence between frames is fixed, in baud (Modbus over serial line 1.02,
/// 2.5.1.1: above it counting characters would load a small processor too much).
const FIXED_SILENCE_ABOVE_BAUD: u32 = 19_200;
/// That fixed silence, in microseconds.
const FIXED_SILENCE_US: u64 = 1_750;

/// What carries a line's frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Modbus TCP. Host and port; a name is looked up at each connect.
    Tcp { endpoint: String },
    /// RTU frames through a TCP converter; `framing` is the bus behind it.
    RtuTcp { endpoint: String, framing: Framing },
    /// RTU frames on a serial port of this machine.
    Serial { path: String, framing: Framing, rs485: bool },
}

impl Wire {
    /// The bus that the frames end up on, where it is one of characters.
    pub fn framing(&self) -> Option<Framing> {
        match self {
            Wire::Tcp { .. } => None,
            Wire::RtuTcp { framing, .. } | Wire::Serial { framing, .. } => Some(*framing),
        }
    }

    /// Whether an answer names the request that it belongs to.
    pub fn has_transactions(&self) -> bool {
        matches!(self, Wire::Tcp { .. })
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Tcp { endpoint } => f.write_str(endpoint),
            Wire::RtuTcp { endpoint, .. } => write!(f, "{endpoint} (RTU)"),
            Wire::Serial { path, framing, .. } => write!(f, "{path} at {framing}"),
        }
    }
}

/// How a character travels on a serial bus: always 8 data bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Framing {
    /// Bits a second, 1,200 to 115,200.
    pub baud: u32,
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// The check bit of a character.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    None,
    Even,
    Odd,
}

impl Framing {
    /// What so many characters take on the wire: start bit, 8 data bits, parity and stop bits each.
    pub fn characters(self, count: u32) -> Duration {
        self.half_characters(u64::from(count) * 2)
    }

    /// The silence that ends a frame: 3.5 characters, or 1.75 ms above 19,200 baud.
    pub fn silence(self) -> Duration {
        if self.baud > FIXED_SILENCE_ABOVE_BAUD {
            return Duration::from_micros(FIXED_SILENCE_US);
        }
        self.half_characters(7)
    }

    fn half_characters(self, count: u64) -> Duration {
        let bits = 9 + u64::from(self.parity != Parity::None) + u64::from(self.stop_bits);
        // At most 2^33 halves of 12 bits in nanoseconds: above u64 only for counts no frame has.
        let ns = (count * bits).saturating_mul(500_000_000) / u64::from(self.baud.max(1));
        Duration::from_nanos(ns)
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{} 8{parity}{}", self.baud, self.stop_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Baud, parity, stop bits; then microseconds of one character and of the silence.
    type Case = (u32, Parity, u8, u128, u128);

    #[test]
    fn characters_and_silences_take_what_the_standard_says() {
        let table: [Case; 7] = [
            (1_200, Parity::None, 1, 8_333, 29_166),
            (9_600, Parity::None, 1, 1_041, 3_645),
            (9_600, Parity::Even, 1, 1_145, 4_010),
            (9_600, Parity::None, 2, 1_145, 4_010),
            (19_200, Parity::Even, 1, 572, 2_005),
            (38_400, Parity::Odd, 1, 286, 1_750),
            (115_200, Parity::None, 1, 86, 1_750),
        ];
        for (baud, parity, stop_bits, character_us, silence_us) in table {
            let framing = Framing { baud, parity, stop_bits };
            let told = (framing.characters(1).as_micros(), framing.silence().as_micros());
            assert_eq!(told, (character_us, silence_us), "{framing}");
        }
    }
}
