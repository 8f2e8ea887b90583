//! Simulated energy meters that answer Modbus requests, over TCP and on a serial line.
//!
//! | register | | |
//! |---|---|---|
//! | input 0x0000 | float32, high word first | voltage, V |
//! | input 0x0006 | | current, A |
//! | input 0x0034 | | power, W |
//! | input 0x0046 | | frequency, Hz |
//! | input 0x0048 | | energy, kWh |
//! | coil 0x0000 | | the relay between meter and load, where there is one |
//!
//! These are the addresses of a widespread family of three-phase meters.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_modbus::server::{Service, rtu, tcp};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_serial::SerialStream;

use super::swinging;

/// Registers that a meter has.
const REGISTERS: usize = 0x50;
/// The most registers in one request.
const MAX_WORDS: u16 = 125;
/// What the meter itself takes, in watts.
const STANDBY: f64 = 2.5;

/// What hangs on a meter: a power that swings, in watts and seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The mean power.
    pub watts: f64,
    /// How far it goes up and down.
    pub swing: f64,
    /// How long that takes.
    pub period: f64,
}

/// Whether a relay stands between the meter and its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// None: the load is always on.
    None,
    /// One, closed at first; coil 0 opens and closes it.
    Closed,
}

/// An energy meter.
#[derive(Debug)]
pub struct Meter {
    load: Load,
    has_relay: bool,
    started: Instant,
    /// Guards what the meter remembers, for the moment of one request.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_on: bool,
    kilowatt_hours: f64,
    at: Instant,
}

impl Meter {
    /// A meter that has counted `kilowatt_hours` so far.
    pub fn new(load: Load, relay: Relay, kilowatt_hours: f64) -> Self {
        let now = Instant::now();
        let state = Mutex::new(State { is_on: true, kilowatt_hours, at: now });
        Self { load, has_relay: relay == Relay::Closed, started: now, state }
    }

    /// The answer to one request.
    ///
    /// # Errors
    /// The exception that a meter of this kind answers.
    pub fn answer(&self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        match *request {
            Request::ReadInputRegisters(first, count) => {
                if !(1..=MAX_WORDS).contains(&count) {
                    return Err(ExceptionCode::IllegalDataValue);
                }
                let range = usize::from(first)..usize::from(first) + usize::from(count);
                let registers = self.registers(Instant::now());
                let words = registers.get(range).ok_or(ExceptionCode::IllegalDataAddress)?;
                Ok(Response::ReadInputRegisters(words.to_vec()))
            }
            Request::ReadCoils(0, 1) if self.has_relay => Ok(Response::ReadCoils(vec![self.state().is_on])),
            Request::WriteSingleCoil(0, is_on) if self.has_relay => {
                self.energy_until(Instant::now());
                self.state().is_on = is_on;
                Ok(Response::WriteSingleCoil(0, is_on))
            }
            Request::ReadCoils(..) | Request::WriteSingleCoil(..) => Err(ExceptionCode::IllegalDataAddress),
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    fn registers(&self, now: Instant) -> [u16; REGISTERS] {
        let seconds = (now - self.started).as_secs_f64();
        let kilowatt_hours = self.energy_until(now);
        let volts = swinging(230.4, 1.6, 47.0, seconds);
        let watts = self.watts(seconds);
        let mut registers = [0; REGISTERS];
        for (address, value) in [
            (0x0000, volts),
            (0x0006, watts / volts),
            (0x0034, watts),
            (0x0046, swinging(50.0, 0.03, 31.0, seconds)),
            (0x0048, kilowatt_hours),
        ] {
            let bits = (value as f32).to_bits();
            registers[address] = (bits >> 16) as u16;
            registers[address + 1] = bits as u16;
        }
        registers
    }

    fn watts(&self, seconds: f64) -> f64 {
        let Load { watts, swing, period } = self.load;
        if self.state().is_on { swinging(watts, swing, period, seconds) } else { STANDBY }
    }

    /// Counts what was taken since the last time.
    fn energy_until(&self, now: Instant) -> f64 {
        let watts = self.watts((now - self.started).as_secs_f64());
        let mut state = self.state();
        state.kilowatt_hours += watts * now.saturating_duration_since(state.at).as_secs_f64() / 3.6e6;
        state.at = now;
        state.kilowatt_hours
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The meters on one wire, by unit id. Units that are not there stay silent, as on a real line.
#[derive(Debug, Default)]
pub struct Units(pub BTreeMap<u8, Meter>);

impl Service for Units {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.0.get(&request.slave).map(|meter| meter.answer(&request.request)).transpose())
    }
}

/// Serves `units` over Modbus TCP. Dropping the future closes all connections.
///
/// # Errors
/// Where no more connections can be accepted.
pub async fn serve_tcp(listener: TcpListener, units: Arc<Units>) -> io::Result<()> {
    let on_connected = |stream: TcpStream, _| {
        let units = Arc::clone(&units);
        async move { Ok(Some((units, stream))) }
    };
    let on_error = |error: io::Error| tracing::debug!(%error, "a Modbus TCP connection ended");
    tcp::Server::new(listener).serve(&on_connected, on_error).await
}

/// Serves `units` with RTU frames at the device's end of a line.
///
/// # Errors
/// Where the line is gone.
pub async fn serve_line(line: SerialStream, units: Arc<Units>) -> io::Result<()> {
    rtu::Server::new(line).serve_forever(units).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { watts: 2000.0, swing: 300.0, period: 20.0 };

    fn float(meter: &Meter, address: u16) -> f32 {
        match meter.answer(&Request::ReadInputRegisters(address, 2)).unwrap() {
            Response::ReadInputRegisters(words) => f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1])),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_meter_counts_what_its_load_takes() {
        let meter = Meter::new(LOAD, Relay::None, 100.0);
        let mut powers = Vec::new();
        for _ in 0..3600 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            powers.push(float(&meter, 0x34));
        }
        assert!(powers.iter().all(|power| (1700.0..=2300.0).contains(power)));
        let counted = float(&meter, 0x48);
        assert!((101.9..=102.1).contains(&counted), "{counted} kWh after an hour of 2 kW");
    }

    #[tokio::test]
    async fn the_relay_takes_the_load_off() {
        let meter = Meter::new(LOAD, Relay::Closed, 0.0);
        assert_eq!(meter.answer(&Request::ReadCoils(0, 1)), Ok(Response::ReadCoils(vec![true])));
        assert!(float(&meter, 0x34) > 1000.0);
        assert!(meter.answer(&Request::WriteSingleCoil(0, false)).is_ok());
        assert_eq!(meter.answer(&Request::ReadCoils(0, 1)), Ok(Response::ReadCoils(vec![false])));
        assert!(float(&meter, 0x34) < 10.0);
    }

    #[tokio::test]
    async fn what_a_meter_does_not_have_is_an_exception() {
        let meter = Meter::new(LOAD, Relay::None, 0.0);
        for (request, exception) in [
            (Request::ReadInputRegisters(0x4F, 2), ExceptionCode::IllegalDataAddress),
            (Request::ReadInputRegisters(u16::MAX, 125), ExceptionCode::IllegalDataAddress),
            (Request::ReadInputRegisters(0, 0), ExceptionCode::IllegalDataValue),
            (Request::ReadInputRegisters(0, 126), ExceptionCode::IllegalDataValue),
            (Request::ReadCoils(0, 1), ExceptionCode::IllegalDataAddress),
            (Request::ReadHoldingRegisters(0, 1), ExceptionCode::IllegalFunction),
        ] {
            assert_eq!(meter.answer(&request), Err(exception), "{request:?}");
        }
    }

    #[tokio::test]
    async fn a_unit_that_is_not_there_stays_silent() {
        let units = Units(BTreeMap::from([(1, Meter::new(LOAD, Relay::None, 0.0))]));
        let ask = |slave| units.call(SlaveRequest { slave, request: Request::ReadInputRegisters(0, 2) });
        assert!(ask(1).await.unwrap().is_some());
        assert_eq!(ask(9).await, Ok(None));
    }
}
