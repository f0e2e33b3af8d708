//! Human-readable amounts. In: bytes, counts, times. Out: short texts with a unit. It must not count or measure.

use std::time::Duration;

/// A human-readable number of bytes: 512 B, 23.4 MiB, 1.5 GiB.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut shown = format!("{count} B");
    for unit in units {
        value /= 1024.0;
        if value < 1.0 {
            break;
        }
        shown = format!("{value:.1} {unit}");
    }
    shown
}

/// A number with separated thousands: 1 234 567.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A human-readable duration: 3.2 s, 4 min 5 s, 2 h 10 min.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A human-readable short duration: 3 ms, 0.42 s; from one second on as [`duration`].
pub fn short_time(time: Duration) -> String {
    match time.as_millis() {
        milliseconds @ 0..100 => format!("{milliseconds} ms"),
        100..1000 => format!("{:.2} s", time.as_secs_f64()),
        _ => duration(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_readable() {
        assert_eq!([0, 1023, 1024, 24 << 20, 3 << 39].map(bytes), ["0 B", "1023 B", "1.0 KiB", "24.0 MiB", "1.5 TiB"]);
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(short_time(Duration::from_millis(7)), "7 ms");
        assert_eq!(short_time(Duration::from_millis(420)), "0.42 s");
        assert_eq!(duration(Duration::from_millis(3200)), "3.2 s");
        assert_eq!(duration(Duration::from_secs(245)), "4 min 5 s");
        assert_eq!(duration(Duration::from_mins(130)), "2 h 10 min");
    }
}
