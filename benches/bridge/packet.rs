//! The few packets of 3.1.1 that a publisher and a sink need, by hand.

/// Bytes of the payload of each message; its sequence number is in the first eight.
pub const PAYLOAD_BYTES: usize = 200;
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// CONNECT with a session that is kept, without keep alive.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut packet = vec![0x10, 12 + client_id.len() as u8, 0, 4];
    packet.extend_from_slice(b"MQTT\x04\0\0\0\0");
    packet.push(client_id.len() as u8);
    packet.extend_from_slice(client_id.as_bytes());
    packet
}

/// PUBLISH of that number; `id` counts from QoS 1 on.
pub fn publish(output: &mut Vec<u8>, qos: u8, is_again: bool, topic: &str, id: u16, number: u64) {
    let remaining = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + PAYLOAD_BYTES;
    // Its length has two bytes: from 128 to 16,383.
    output.push(0x30 | qos << 1 | u8::from(is_again) << 3);
    output.extend_from_slice(&[(remaining % 128) as u8 | 0x80, (remaining / 128) as u8, 0, topic.len() as u8]);
    output.extend_from_slice(topic.as_bytes());
    if qos > 0 {
        output.extend_from_slice(&id.to_be_bytes());
    }
    output.extend_from_slice(&number.to_be_bytes());
    output.resize(output.len() + PAYLOAD_BYTES - 8, b'x');
}

/// A packet of an identifier alone.
pub fn acknowledge(output: &mut Vec<u8>, kind: u8, id: u16) {
    output.extend_from_slice(&[kind, 2]);
    output.extend_from_slice(&id.to_be_bytes());
}

/// The identifier of such a packet's body.
pub fn id(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// First byte, body, and bytes of all, of the packet at the start; `None` where it is not whole.
pub fn first(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let mut remaining = 0;
    for (index, &byte) in input.get(1..)?.iter().take(4).enumerate() {
        remaining |= (byte as usize & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let body = input.get(index + 2..)?.get(..remaining)?;
            return Some((input[0], body, index + 2 + remaining));
        }
    }
    None
}
