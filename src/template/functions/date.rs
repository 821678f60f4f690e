//! Dates and durations, after sprig's `date.go` and Go's time layouts.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ZonedDateTime};

use super::{Result, Row, string, text};
use crate::template::{Engine, Object, Value, text_argument};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("now", "", |_, _| Ok(Value::object(Time::now()))),
    ("date", "sa", |_, a| text(time_of(&a[1]).format(string(a, 0)))),
    ("dateInZone", "sas", in_zone),
    ("date_in_zone", "sas", in_zone),
    ("htmlDate", "a", |_, a| text(time_of(&a[0]).format("2006-01-02"))),
    ("htmlDateInZone", "as", |_, a| text(time_of(&a[0]).at(string(a, 1)).format("2006-01-02"))),
    ("dateModify", "sa", |_, a| Ok(date_modify(a).unwrap_or_else(|_| Value::object(time_of(&a[1]))))),
    ("date_modify", "sa", |_, a| Ok(date_modify(a).unwrap_or_else(|_| Value::object(time_of(&a[1]))))),
    ("mustDateModify", "sa", |_, a| date_modify(a)),
    ("must_date_modify", "sa", |_, a| date_modify(a)),
    ("toDate", "ss", |_, a| Ok(Value::object(parse(string(a, 0), string(a, 1)).unwrap_or_else(|_| Time::zero())))),
    ("mustToDate", "ss", |_, a| parse(string(a, 0), string(a, 1)).map(Value::object)),
    ("unixEpoch", "a", |_, a| text(time_of(&a[0]).0.timestamp().as_second().to_string())),
    ("ago", "a", |_, a| {
        let seconds = Timestamp::now().as_second() - time_of(&a[0]).0.timestamp().as_second();
        text(duration(seconds.saturating_mul(SECOND)))
    }),
    ("duration", "a", |_, a| text(duration(nanoseconds(&a[0])))),
    ("durationRound", "a", |_, a| text(duration_round(&a[0]))),
];

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// A `time.Time`.
#[derive(Debug, Clone)]
pub struct Time(ZonedDateTime);

/// Converts as sprig's date functions do: a time, seconds since 1970, else now.
fn time_of(value: &Value) -> Time {
    let seconds = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    match value {
        Value::Int(number) | Value::Int64(number) => Time(seconds(*number).to_zoned_datetime(TimeZone::UTC)),
        other => other.as_object::<Time>().cloned().unwrap_or_else(Time::now),
    }
}

fn in_zone(_: &Engine, a: &[Value]) -> Result {
    text(time_of(&a[1]).at(string(a, 2)).format(string(a, 0)))
}

fn date_modify(a: &[Value]) -> Result {
    let by = parse_duration(string(a, 0)).ok_or_else(|| format!("time: invalid duration {:?}", string(a, 0)))?;
    let time = time_of(&a[1]).0;
    time.checked_add(jiff::SignedDuration::from_nanos(by)).map(|time| Value::object(Time(time))).map_err(|error| error.to_string())
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The elements of Go's layouts, the longer before what they begin with.
const ELEMENTS: [&str; 42] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "__2",
    "_2",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "-070000",
    "-07:00:00",
    "-0700",
    "-07:00",
    "-07",
    "Z070000",
    "Z07:00:00",
    "Z0700",
    "Z07:00",
    "Z07",
    ".000000000",
    ".000000",
    ".000",
    ",000000000",
    ",000000",
    ",000",
    ".999999999",
    ".999999",
    ".999",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// Finds the next element of a layout; returns what is before it, the element, and the rest.
fn element(layout: &str) -> Option<(&str, &'static str, &str)> {
    for (at, _) in layout.char_indices() {
        let rest = &layout[at..];
        let found = ELEMENTS.iter().filter(|element| rest.starts_with(**element)).max_by_key(|element| element.len());
        let lower = |element: &str| rest[element.len()..].starts_with(|next: char| next.is_ascii_lowercase());
        match found {
            Some(&("Jan" | "Mon")) if found.is_some_and(|element| lower(element)) => {}
            Some(element) => return Some((&layout[..at], element, &rest[element.len()..])),
            None => {}
        }
    }
    None
}

impl Time {
    fn now() -> Time {
        Time(Timestamp::now().to_zoned_datetime(TimeZone::UTC))
    }

    fn zero() -> Time {
        Time(
            DateTime::constant(1, 1, 1, 0, 0, 0, 0)
                .to_zoned_datetime(TimeZone::UTC)
                .unwrap_or_else(|_| Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC)),
        )
    }

    /// The same instant in another time zone; UTC where the zone is unknown.
    fn at(&self, zone: &str) -> Time {
        let zone = match zone {
            "" | "UTC" | "Local" => TimeZone::UTC,
            name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        };
        Time(self.0.with_time_zone(zone))
    }

    /// Formats the time in one of Go's layouts.
    pub fn format(&self, layout: &str) -> String {
        let mut out = String::new();
        let mut rest = layout;
        while let Some((before, element, after)) = element(rest) {
            out.push_str(before);
            out.push_str(&self.part(element));
            rest = after;
        }
        out + rest
    }

    fn part(&self, element: &str) -> String {
        let time = &self.0;
        let month = MONTHS[usize::from(time.month().unsigned_abs().clamp(1, 12)) - 1];
        let day = DAYS[usize::from(time.weekday().to_monday_zero_offset().unsigned_abs().min(6))];
        let twelve = match time.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        match element {
            "2006" => format!("{:04}", time.year()),
            "06" => format!("{:02}", time.year().rem_euclid(100)),
            "01" => format!("{:02}", time.month()),
            "1" => time.month().to_string(),
            "Jan" => month[..3].to_owned(),
            "January" => month.to_owned(),
            "Mon" => day[..3].to_owned(),
            "Monday" => day.to_owned(),
            "02" => format!("{:02}", time.day()),
            "_2" => format!("{:2}", time.day()),
            "2" => time.day().to_string(),
            "002" => format!("{:03}", time.day_of_year()),
            "__2" => format!("{:3}", time.day_of_year()),
            "15" => format!("{:02}", time.hour()),
            "03" => format!("{twelve:02}"),
            "3" => twelve.to_string(),
            "04" => format!("{:02}", time.minute()),
            "4" => time.minute().to_string(),
            "05" => format!("{:02}", time.second()),
            "5" => time.second().to_string(),
            "PM" => if time.hour() < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if time.hour() < 12 { "am" } else { "pm" }.to_owned(),
            "MST" => self.zone_name(),
            _ if element.starts_with(['.', ',']) => self.fraction(element),
            _ => self.offset(element),
        }
    }

    fn zone_name(&self) -> String {
        let info = self.0.time_zone().to_offset_info(self.0.timestamp());
        match info.abbreviation() {
            "" => self.offset("-0700"),
            name => name.to_owned(),
        }
    }

    fn fraction(&self, element: &str) -> String {
        let digits = format!("{:09}", self.0.subsec_nanosecond());
        let shown = &digits[..(element.len() - 1).min(9)];
        let shown = if element.contains('9') { shown.trim_end_matches('0') } else { shown };
        if shown.is_empty() { String::new() } else { format!("{}{shown}", &element[..1]) }
    }

    fn offset(&self, element: &str) -> String {
        let seconds = self.0.offset().seconds();
        if element.starts_with('Z') && seconds == 0 {
            return "Z".to_owned();
        }
        let sign = if seconds < 0 { '-' } else { '+' };
        let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
        let colon = if element.contains(':') { ":" } else { "" };
        match element.trim_start_matches(['Z', '-']).replace(':', "").len() {
            2 => format!("{sign}{hours:02}"),
            4 => format!("{sign}{hours:02}{colon}{minutes:02}"),
            _ => format!("{sign}{hours:02}{colon}{minutes:02}{colon}{rest:02}"),
        }
    }

    /// The time in RFC 3339, as JSON and TOML write it.
    pub fn rfc3339(&self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }
}

impl Object for Time {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn display(&self, _depth: usize) -> String {
        self.to_string()
    }

    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result> {
        let time = &self.0;
        let int = |value: i64| Ok(Value::Int(value));
        Some(match name {
            "Year" => int(time.year().into()),
            "Day" => int(time.day().into()),
            "Hour" => int(time.hour().into()),
            "Minute" => int(time.minute().into()),
            "Second" => int(time.second().into()),
            "Nanosecond" => int(time.subsec_nanosecond().into()),
            "YearDay" => int(time.day_of_year().into()),
            "Month" => text(self.part("January")),
            "Weekday" => text(self.part("Monday")),
            "Unix" => Ok(Value::Int64(time.timestamp().as_second())),
            "UnixMilli" => Ok(Value::Int64(time.timestamp().as_millisecond())),
            "UnixNano" => Ok(Value::Int64(i64::try_from(time.timestamp().as_nanosecond()).unwrap_or(i64::MAX))),
            "UTC" | "Local" => Ok(Value::object(self.at("UTC"))),
            "IsZero" => Ok(Value::Bool(time.year() == 1)),
            "String" => text(self.to_string()),
            "Format" => text_argument(name, arguments, 0).and_then(|layout| text(self.format(&layout))),
            "AddDate" => {
                let by = |at: usize| arguments.get(at).map_or(0, super::math::to_int);
                let span = jiff::Span::new().try_years(by(0)).and_then(|span| span.try_months(by(1))).and_then(|span| span.try_days(by(2)));
                span.and_then(|span| time.checked_add(span)).map(|time| Value::object(Time(time))).map_err(|error| error.to_string())
            }
            _ => return None,
        })
    }

    fn to_plain(&self) -> Value {
        Value::text(self.rfc3339())
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// Reads a time in one of Go's layouts; UTC where it has no time zone.
///
/// # Errors
/// Fails with Go's message where the text does not match the layout.
pub fn parse(layout: &str, value: &str) -> Result<Time> {
    let wrong = || format!("parsing time {value:?} as {layout:?}: cannot parse {value:?} as {layout:?}");
    let mut parts = Parts { year: 0, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0, afternoon: None, offset: 0 };
    let (mut rest, mut text) = (layout, value);
    while let Some((before, element, after)) = element(rest) {
        text = text.strip_prefix(before).ok_or_else(wrong)?;
        text = parts.read(element, text).ok_or_else(wrong)?;
        rest = after;
    }
    if text != rest {
        return Err(wrong());
    }
    parts.time().ok_or_else(wrong)
}

struct Parts {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    offset: i32,
}

fn digits(text: &str, most: usize) -> Option<(i32, &str)> {
    let len = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    text[..len].parse().ok().map(|number| (number, &text[len..]))
}

impl Parts {
    /// Reads one element from the start of a text; returns the rest.
    fn read<'a>(&mut self, element: &str, text: &'a str) -> Option<&'a str> {
        let named = |names: &[&str], short: bool| {
            names.iter().enumerate().find_map(|(at, name)| {
                let name = if short { &name[..3] } else { name };
                text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|_| (at, &text[name.len()..]))
            })
        };
        let small = |text: &'a str| digits(text, 2).and_then(|(number, rest)| i8::try_from(number).ok().map(|number| (number, rest)));
        let rest = match element {
            "January" | "Jan" => {
                let (at, rest) = named(&MONTHS, element == "Jan")?;
                self.month = i8::try_from(at + 1).ok()?;
                rest
            }
            "Monday" | "Mon" => named(&DAYS, element == "Mon")?.1,
            "2006" => {
                let (year, rest) = digits(text, 4)?;
                self.year = i16::try_from(year).ok()?;
                rest
            }
            "06" => {
                let (year, rest) = digits(text, 2)?;
                self.year = i16::try_from(if year >= 69 { 1900 + year } else { 2000 + year }).ok()?;
                rest
            }
            "01" | "1" => take_into(&mut self.month, small(text)?),
            "02" | "2" => take_into(&mut self.day, small(text)?),
            "_2" => take_into(&mut self.day, small(text.trim_start_matches(' '))?),
            "15" | "03" | "3" => take_into(&mut self.hour, small(text)?),
            "04" | "4" => take_into(&mut self.minute, small(text)?),
            "05" | "5" => {
                let rest = take_into(&mut self.second, small(text)?);
                self.fraction(rest)
            }
            "PM" | "pm" => {
                self.afternoon = Some(text.get(..2)?.eq_ignore_ascii_case("pm"));
                &text[2..]
            }
            "MST" => &text[text.bytes().take_while(u8::is_ascii_uppercase).count()..],
            _ if element.starts_with(['.', ',']) => self.fraction(text),
            _ if element.starts_with('Z') && text.starts_with('Z') => &text[1..],
            _ => self.zone(text)?,
        };
        Some(rest)
    }

    fn fraction<'a>(&mut self, text: &'a str) -> &'a str {
        let Some(rest) = text.strip_prefix(['.', ',']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) else { return text };
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.nanosecond = format!("{:0<9}", &rest[..len.min(9)]).parse().unwrap_or(0);
        &rest[len..]
    }

    fn zone<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let sign = match text.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        let (hours, rest) = digits(&text[1..], 2)?;
        let (minutes, rest) = digits(rest.strip_prefix(':').unwrap_or(rest), 2).unwrap_or((0, rest));
        self.offset = sign * (hours * 3600 + minutes * 60);
        Some(rest)
    }

    fn time(&self) -> Option<Time> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let civil = DateTime::new(self.year, self.month, self.day, hour, self.minute, self.second, self.nanosecond).ok()?;
        let zone = if self.offset == 0 { TimeZone::UTC } else { TimeZone::fixed(Offset::from_seconds(self.offset).ok()?) };
        civil.to_zoned_datetime(zone).ok().map(Time)
    }
}

fn take_into<'a>(slot: &mut i8, (number, rest): (i8, &'a str)) -> &'a str {
    *slot = number;
    rest
}

/// Converts the seconds of `duration`: a text or an int64; everything else is 0, as in sprig.
fn nanoseconds(value: &Value) -> i64 {
    match value {
        Value::Text(text) => text.parse::<i64>().unwrap_or(0).saturating_mul(SECOND),
        Value::Int64(seconds) => seconds.saturating_mul(SECOND),
        _ => 0,
    }
}

/// Reads a duration as `time.ParseDuration`, in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let len = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..len].parse().ok()?;
        rest = &rest[len..];
        let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
        let (unit, size) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * size;
        rest = &rest[unit.len()..];
    }
    Some((sign * total) as i64)
}

/// Formats nanoseconds as `time.Duration.String`.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if all == 0 {
        return "0s".to_owned();
    }
    if all < second {
        let (unit, size) = if all < 1000 {
            ("ns", 1.0)
        } else if all < 1_000_000 {
            ("µs", 1e3)
        } else {
            ("ms", 1e6)
        };
        return format!("{sign}{}{unit}", all as f64 / size);
    }
    let fraction = format!("{:09}", all % second);
    let fraction = fraction.trim_end_matches('0');
    let seconds = format!("{}{}{fraction}s", all / second % 60, if fraction.is_empty() { "" } else { "." });
    match (all / second / 3600, all / second / 60 % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// Formats a duration in its largest unit (`durationRound`).
fn duration_round(value: &Value) -> String {
    let seconds = match value {
        Value::Text(text) => parse_duration(text).unwrap_or(0) / SECOND,
        Value::Int64(nanoseconds) => nanoseconds / SECOND,
        Value::Object(_) => Timestamp::now().as_second() - time_of(value).0.timestamp().as_second(),
        _ => 0,
    };
    let sign = if seconds < 0 { "-" } else { "" };
    let all = seconds.unsigned_abs();
    let units = [("y", 365 * 86400), ("mo", 30 * 86400), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1)];
    let shown =
        units.into_iter().find(|(_, size)| all / size > 0).map_or_else(|| "0s".to_owned(), |(unit, size)| format!("{}{unit}", all / size));
    format!("{sign}{shown}")
}
