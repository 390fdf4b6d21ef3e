//! Zone controllers and panels as real Modbus TCP servers on loopback, one a line.
//!
//! Where things lie comes from the site's device profiles, as in the gateway, but this is the
//! other side of the wire and shares no code with it: what the gateway decodes, this encodes. It
//! knows the shapes that the reference profiles use; others are refused when the demo starts.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};

use super::world::Way;
use crate::profile::{Display, Format, Layout, Table, WordOrder};
use crate::site::{BayIx, Face, GarageIx, LineIx, SignIx, Site, Turn, UnitIx};

/// All devices of a site.
#[derive(Debug)]
pub struct Devices {
    site: Arc<Site>,
    /// By unit.
    units: Vec<Arc<Device>>,
    /// By line.
    endpoints: Vec<SocketAddr>,
}

/// One unit's holding registers.
#[derive(Debug)]
struct Device {
    address: u8,
    words: Mutex<Vec<u16>>,
    /// Without power: takes requests and never answers.
    silent: AtomicBool,
}

/// What answers on one line: its units by address.
#[derive(Clone, Debug)]
struct LineService {
    units: Vec<Arc<Device>>,
}

impl Devices {
    /// Opens a port for each line. Nothing answers before [`Devices::serve`].
    ///
    /// # Errors
    ///
    /// No port can be had, or a profile has a shape that these devices do not know.
    pub fn bind(site: &Arc<Site>) -> io::Result<(Devices, Vec<TcpListener>)> {
        let units = (0..).map(UnitIx).take(site.units.len());
        let units = units.map(|unit| Device::new(site, unit)).collect::<io::Result<Vec<_>>>()?;
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for _ in &site.lines {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            endpoints.push(listener.local_addr()?);
            listeners.push(listener);
        }
        Ok((Devices { site: site.clone(), units, endpoints }, listeners))
    }

    pub fn endpoint(&self, line: LineIx) -> SocketAddr {
        self.endpoints[line.at()]
    }

    /// A vehicle stands in a bay, or none does.
    pub fn set_bay(&self, bay: BayIx, taken: bool) {
        let bay = &self.site.bays[bay.at()];
        let profile = self.site.profile(bay.unit);
        let base = profile.bays.as_ref().map(|bays| bays.base);
        self.set_bit(bay.unit, base, bay.point, taken);
    }

    /// A detector says that it is broken.
    pub fn set_fault(&self, bay: BayIx, faulty: bool) {
        let bay = &self.site.bays[bay.at()];
        let profile = self.site.profile(bay.unit);
        let base = profile.bays.as_ref().and_then(|bays| bays.fault_base);
        self.set_bit(bay.unit, base, bay.point, faulty);
    }

    fn set_bit(&self, unit: UnitIx, base: Option<u16>, point: u16, on: bool) {
        let Some(base) = base else { return };
        let mut words = self.units[unit.at()].lock();
        let word = &mut words[usize::from(base + point / 16)];
        let bit = 1 << (point % 16);
        *word = if on { *word | bit } else { *word & !bit };
    }

    /// A car passed the loops at a door: the counter goes one up.
    pub fn count(&self, garage: GarageIx, way: Way) {
        let Some(door) = self.site.garages[garage.at()].door_counter else { return };
        let door = if way == Way::In { door.cars_in } else { door.cars_out };
        let Some(counters) = &self.site.profile(door.unit).counters else { return };
        let at = usize::from(counters.base + 2 * door.index);
        let (high, low) = match counters.word_order {
            WordOrder::HighFirst => (at, at + 1),
            WordOrder::LowFirst => (at + 1, at),
        };
        let mut words = self.units[door.unit.at()].lock();
        let count = (u32::from(words[high]) << 16 | u32::from(words[low])).wrapping_add(1);
        words[high] = (count >> 16) as u16;
        words[low] = count as u16;
    }

    /// Bays whose detector bit is set.
    #[cfg(test)]
    pub fn occupied(&self) -> u64 {
        let bit = |bay: &crate::site::Bay| {
            let base = self.site.profile(bay.unit).bays.as_ref().map_or(0, |bays| bays.base);
            let words = self.units[bay.unit.at()].lock();
            u64::from(words[usize::from(base + bay.point / 16)] >> (bay.point % 16) & 1)
        };
        self.site.bays.iter().map(bit).sum()
    }

    /// Takes a unit's power away, or gives it back.
    pub fn set_silent(&self, unit: UnitIx, silent: bool) {
        self.units[unit.at()].silent.store(silent, Ordering::Relaxed);
    }

    /// What stands on a sign now, as a passer-by would read it.
    pub fn shows(&self, sign: SignIx) -> Face {
        let sign = &self.site.signs[sign.at()];
        let Some(display) = self.site.display(sign) else { return Face::Blank };
        let first = usize::from(display.base + display.stride * sign.index);
        let words = self.units[sign.unit.at()].lock();
        let format = display.format;
        match format {
            Format::Number { .. } | Format::Arrows { .. } => {
                let arrows = [Turn::Left, Turn::Straight, Turn::Right].map(Face::Arrow);
                let words_of = [Face::Full, Face::Closed, Face::Blank, Face::Staff, Face::Valet];
                let mut faces = words_of.into_iter().chain(arrows);
                let shown = faces.find(|face| format.code(face) == Some(words[first]));
                shown.unwrap_or_else(|| Face::Number(u32::from(words[first])))
            }
            Format::Text { chars, per_register } => {
                let count = usize::from(chars.div_ceil(per_register.max(1)));
                let words = words[first..first + count].iter();
                let bytes: Vec<u8> = match per_register {
                    1 => words.map(|word| *word as u8).collect(),
                    _ => words.flat_map(|word| word.to_be_bytes()).collect(),
                };
                let text = String::from_utf8_lossy(&bytes);
                Face::Text(text.trim_end_matches([' ', '\0']).to_owned())
            }
        }
    }

    /// Answers on all lines until dropped.
    ///
    /// # Errors
    ///
    /// A port cannot be listened on.
    pub async fn serve(&self, listeners: Vec<TcpListener>) -> io::Result<()> {
        let mut servers = tokio::task::JoinSet::new();
        for (line, listener) in self.site.lines.iter().zip(listeners) {
            let units = line.units.iter().map(|unit| self.units[unit.at()].clone()).collect();
            let service = LineService { units };
            let server = Server::new(tokio::net::TcpListener::from_std(listener)?);
            servers.spawn(async move {
                let connected = |stream: tokio::net::TcpStream, from| {
                    let service = service.clone();
                    async move {
                        stream.set_nodelay(true)?;
                        accept_tcp_connection(stream, from, |_| Ok(Some(service.clone())))
                    }
                };
                let failed = |error| tracing::debug!(%error, "a Modbus connection ended");
                server.serve(&connected, failed).await
            });
        }
        while let Some(ended) = servers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

impl Device {
    fn new(site: &Site, unit: UnitIx) -> io::Result<Arc<Device>> {
        let profile = site.profile(unit);
        let bays = profile.bays.as_ref();
        let counters = profile.counters.as_ref();
        let packed = bays.is_none_or(|b| b.table == Table::Holding && b.layout == Layout::Bits);
        if !packed || counters.is_some_and(|c| c.table != Table::Holding || c.width != 32) {
            let text = format!("no demo device for profile \"{}\"", profile.id);
            return Err(io::Error::other(text));
        }
        let bits = |base: u16, points: u16| base + points.div_ceil(16);
        let ends = [
            bays.map(|bays| bits(bays.base, bays.points)),
            bays.and_then(|bays| Some(bits(bays.fault_base?, bays.points))),
            counters.map(|counters| counters.base + 2 * counters.count),
            profile.sign.as_ref().map(|d| d.base + d.stride * d.displays),
            profile.callout.as_ref().map(|d| d.base + d.stride * d.displays),
        ];
        let end = ends.into_iter().flatten().max().unwrap_or(0);
        let mut words = vec![0; usize::from(end)];
        // A panel that nobody has written to is dark.
        if let Some(Display {
            base, stride, displays, format: Format::Number { blank, .. }, ..
        }) = profile.sign
        {
            (0..displays).for_each(|ix| words[usize::from(base + stride * ix)] = blank);
        }
        let address = site.units[unit.at()].address;
        let silent = AtomicBool::new(false);
        Ok(Arc::new(Device { address, words: Mutex::new(words), silent }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u16>> {
        // Registers are plain numbers: whatever a panicking thread left is as good as any.
        self.words.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn answer(&self, request: Request<'_>) -> Result<Response, ExceptionCode> {
        let mut words = self.lock();
        match request {
            Request::ReadHoldingRegisters(first, count @ 1..=125) => {
                Ok(Response::ReadHoldingRegisters(
                    part(&mut words, first, usize::from(count))?.to_vec(),
                ))
            }
            Request::ReadHoldingRegisters(..) => Err(ExceptionCode::IllegalDataValue),
            Request::WriteSingleRegister(first, word) => {
                part(&mut words, first, 1)?[0] = word;
                Ok(Response::WriteSingleRegister(first, word))
            }
            Request::WriteMultipleRegisters(first, new) => {
                part(&mut words, first, new.len())?.copy_from_slice(&new);
                // At most 123 registers fit into a request.
                Ok(Response::WriteMultipleRegisters(first, new.len() as u16))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

/// The registers that a request names, if the device has them all.
fn part(words: &mut [u16], first: u16, count: usize) -> Result<&mut [u16], ExceptionCode> {
    let first = usize::from(first);
    words.get_mut(first..first + count).ok_or(ExceptionCode::IllegalDataAddress)
}

impl Service for LineService {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let device = self.units.iter().find(|device| device.address == request.slave);
        let Some(device) = device.filter(|device| !device.silent.load(Ordering::Relaxed)) else {
            return ready(Ok(None));
        };
        ready(device.answer(request.request).map(Some))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_modbus::client::{Context, tcp};
    use tokio_modbus::prelude::{Reader, Slave, Writer};

    use super::*;

    #[tokio::test]
    async fn bays_faults_and_loops_can_be_read_over_modbus() {
        let (site, devices) = started();
        let bay = BayIx(17);
        let Bay { unit, point, .. } = site.bays[bay.at()].clone();
        assert_eq!((site.units[unit.at()].id.as_str(), point), ("zc-01", 17));
        devices.set_bay(bay, true);
        devices.set_bay(BayIx(0), true);
        devices.set_bay(BayIx(0), false);
        devices.set_fault(BayIx(33), true);
        devices.count(GarageIx(0), Way::In);
        devices.count(GarageIx(0), Way::In);
        devices.count(GarageIx(0), Way::Out);
        let mut line = dial(&devices, site.units[unit.at()].line).await;
        let words = line.read_holding_registers(0, 108).await.expect("io").expect("answer");
        let mut expected = vec![0; 108];
        expected[1] = 1 << 1;
        expected[40 + 2] = 1 << 1;
        expected[101] = 2;
        expected[103] = 1;
        assert_eq!(words, expected);
    }

    #[tokio::test]
    async fn what_is_written_to_a_panel_is_what_a_passer_by_reads() {
        let (site, devices) = started();
        let count = site.sign("s-g02").expect("it is configured");
        let call_out = site.sign("c-p-beiqu").expect("it is configured");
        assert_eq!(devices.shows(count), Face::Blank);
        let panel = &site.signs[count.at()];
        let mut line = dial(&devices, site.units[panel.unit.at()].line).await;
        for (word, face) in [(7, Face::Number(7)), (10_001, Face::Full), (10_002, Face::Closed)] {
            line.write_single_register(panel.index, word).await.expect("io").expect("answer");
            assert_eq!(devices.shows(count), face);
        }
        let text: Vec<u16> = b"8K21 g01 B1-017 ".chunks(2).map(pair).collect();
        line.write_multiple_registers(1_000, &text).await.expect("io").expect("answer");
        assert_eq!(devices.shows(call_out), Face::Text("8K21 g01 B1-017".to_owned()));
    }

    #[tokio::test]
    async fn what_is_wrong_is_refused_and_what_is_dead_is_silent() {
        let (site, devices) = started();
        let mut line = dial(&devices, LineIx(5)).await;
        let refusal = line.read_holding_registers(100, 9).await.expect("io");
        assert_eq!(refusal, Err(ExceptionCode::IllegalDataAddress));
        let refusal = line.read_coils(0, 1).await.expect("io");
        assert_eq!(refusal, Err(ExceptionCode::IllegalFunction));
        devices.set_silent(site.lines[5].units[0], true);
        let silence = line.read_holding_registers(0, 1);
        assert!(timeout(Duration::from_millis(100), silence).await.is_err(), "a dead unit spoke");
        devices.set_silent(site.lines[5].units[0], false);
        let mut line = dial(&devices, LineIx(5)).await;
        assert!(line.read_holding_registers(0, 1).await.expect("io").is_ok());
    }

    use crate::site::Bay;

    fn started() -> (Arc<Site>, Arc<Devices>) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
        let config = crate::config::load(std::path::Path::new(path)).expect("it is accepted");
        let site = Arc::new(config.site);
        let (devices, listeners) = Devices::bind(&site).expect("ports are free");
        let devices = Arc::new(devices);
        let serving = devices.clone();
        tokio::spawn(async move { serving.serve(listeners).await });
        (site, devices)
    }

    async fn dial(devices: &Devices, line: LineIx) -> Context {
        tcp::connect_slave(devices.endpoint(line), Slave(1)).await.expect("the line is served")
    }

    fn pair(two: &[u8]) -> u16 {
        u16::from_be_bytes([two[0], two[1]])
    }
}
