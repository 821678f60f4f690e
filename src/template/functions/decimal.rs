//! Decimal arithmetic, as sprig's `addf`, `subf`, `mulf` and `divf` use `shopspring/decimal`: `addf 0.1 0.2` is 0.3.

use num_bigint::{BigInt, Sign};

use super::Result;
use super::math::to_float;
use crate::template::{Value, budget};

/// Digits after the point of a quotient.
const PRECISION: i64 = 16;

/// A number `value * 10^exponent`.
#[derive(Debug, Clone)]
pub struct Decimal {
    value: BigInt,
    exponent: i64,
}

/// Folds values into one number.
///
/// # Errors
/// Fails where one is not finite, and with the error of a step.
pub fn fold(values: &[Value], step: impl Fn(&Decimal, &Decimal) -> Result<Decimal>) -> Result {
    let mut numbers = values.iter().map(|value| Decimal::of(to_float(value)));
    let mut folded = numbers.next().unwrap_or_else(|| Decimal::of(0.0))?;
    for number in numbers {
        folded = step(&folded, &number?)?;
        budget::spend(usize::try_from(folded.value.bits()).unwrap_or(usize::MAX))?;
    }
    Ok(Value::Float(folded.to_float()))
}

impl Decimal {
    /// The shortest decimal that reads back as the float.
    fn of(float: f64) -> Result<Decimal> {
        let text = format!("{float:e}");
        let (digits, exponent) =
            text.split_once('e').ok_or_else(|| format!("Cannot create a Decimal from {}", crate::template::float(float, 'g', None)))?;
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let value = digits.replace('.', "").parse().unwrap_or_default();
        let exponent: i64 = exponent.parse().unwrap_or_default();
        Ok(Decimal { value, exponent: exponent - i64::try_from(decimals).unwrap_or_default() })
    }

    fn to_float(&self) -> f64 {
        format!("{}e{}", self.value, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// The value at a smaller exponent.
    fn at(&self, exponent: i64) -> BigInt {
        &self.value * power_of_ten(self.exponent - exponent)
    }

    /// The sum.
    pub fn add(&self, other: &Decimal) -> Decimal {
        let exponent = self.exponent.min(other.exponent);
        Decimal { value: self.at(exponent) + other.at(exponent), exponent }
    }

    /// The difference.
    pub fn subtract(&self, other: &Decimal) -> Decimal {
        let exponent = self.exponent.min(other.exponent);
        Decimal { value: self.at(exponent) - other.at(exponent), exponent }
    }

    /// The product.
    pub fn multiply(&self, other: &Decimal) -> Decimal {
        Decimal { value: &self.value * &other.value, exponent: self.exponent + other.exponent }
    }

    /// The quotient, rounded to 16 digits after the point, half away from zero.
    ///
    /// # Errors
    /// Fails where the divisor is 0.
    pub fn divide(&self, by: &Decimal) -> Result<Decimal> {
        if by.value.sign() == Sign::NoSign {
            return Err("decimal division by 0".to_owned());
        }
        let shift = self.exponent - by.exponent + PRECISION;
        let (numerator, denominator) = (&self.value * power_of_ten(shift), &by.value * power_of_ten(-shift));
        let (mut quotient, rest) = (&numerator / &denominator, &numerator % &denominator);
        if rest.magnitude() * 2u8 >= *denominator.magnitude() {
            let is_negative = numerator.sign() != denominator.sign() && numerator.sign() != Sign::NoSign;
            quotient += if is_negative { -1 } else { 1 };
        }
        Ok(Decimal { value: quotient, exponent: -PRECISION })
    }
}

/// A power of ten; 1 for a negative exponent.
fn power_of_ten(exponent: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_where_floats_are_not() {
        let run = |operation: fn(&Decimal, &Decimal) -> Result<Decimal>, a: f64, b: f64| {
            fold(&[Value::Float(a), Value::Float(b)], operation).map(|value| crate::template::display(&value))
        };
        for (a, b, difference, quotient) in [
            (0.3, 0.1, "0.2", "3"),
            (1.0, 3.0, "-2", "0.3333333333333333"),
            (2.0, -3.0, "5", "-0.6666666666666667"),
            (1e20, 3.0, "1e+20", "3.333333333333333e+19"),
            (1e-17, 2.0, "-2", "0"),
            (1.1e-16, 2.0, "-2", "1e-16"),
        ] {
            assert_eq!(run(|a, b| Ok(a.subtract(b)), a, b).unwrap(), difference, "{a} - {b}");
            assert_eq!(run(Decimal::divide, a, b).unwrap(), quotient, "{a} / {b}");
        }
        assert_eq!(run(|a, b| Ok(a.add(b)), 0.1, 0.2).unwrap(), "0.3");
        assert_eq!(run(|a, b| Ok(a.multiply(b)), 0.1, 0.2).unwrap(), "0.02");
        assert_eq!(run(Decimal::divide, 1.0, 0.0).unwrap_err(), "decimal division by 0");
    }
}
