//! The journal as a whole: on a disk that crashes, and with the thread that writes.

mod expected;
mod mishaps;
mod model;
mod reopening;
mod threads;

use std::sync::Arc;

use super::simulated::{Chance, Simulated};
use super::*;
use crate::mqtt::{Message, Publication, QoS, Quality, Reading, Sampled, TopicName};
