//! Validates values against `values.schema.json`, with the messages of the validator that Helm uses (`gojsonschema`).

use jsonschema::error::{TypeKind, ValidationErrorKind};

use super::subcharts::Chart;
use crate::template::Value;
use crate::template::json;

/// Validates the values of a chart and its subcharts.
///
/// # Errors
/// Fails with Helm's message, which lists all errors of all charts.
pub fn check(chart: &Chart, values: &Value) -> Result<(), String> {
    let mut errors = String::new();
    collect_errors(chart, values, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("values don't meet the specifications of the schema(s) in the following chart(s):\n{errors}"))
}

fn collect_errors(chart: &Chart, values: &Value, errors: &mut String) {
    if let Some(schema) = &chart.schema {
        let found = validate(schema, values).unwrap_or_else(|message| vec![message]);
        if !found.is_empty() {
            errors.push_str(&format!("{}:\n", chart.name()));
            found.iter().for_each(|message| errors.push_str(&format!("{message}\n")));
        }
    }
    for subchart in &chart.subcharts {
        collect_errors(subchart, &values.get(&subchart.name()), errors);
    }
}

fn validate(schema: &[u8], values: &Value) -> Result<Vec<String>, String> {
    let schema: serde_json::Value = serde_json::from_slice(schema).map_err(|error| error.to_string())?;
    let text = json::write(values, json::Style::Raw)?;
    let values: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).map_err(|error| schema_error(&error))?;
    Ok(validator.iter_errors(&values).flat_map(|error| helm_messages(&error)).map(|message| format!("- {message}")).collect())
}

/// Why the schema itself cannot be used.
fn schema_error(error: &jsonschema::ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Referencing(jsonschema::ReferencingError::Unretrievable { uri, .. }) => {
            format!("the schema refers to {uri}, which is not fetched: copy that definition into values.schema.json")
        }
        _ => {
            let place = error.instance_path().to_string();
            format!("the schema is invalid at {}: {error}", if place.is_empty() { "its root" } else { &place })
        }
    }
}

/// The messages of `gojsonschema`; one about several schemas is followed by the errors of the first.
fn helm_messages(error: &jsonschema::ValidationError<'_>) -> Vec<String> {
    let path = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
    let place = if path.is_empty() { "(root)".to_owned() } else { path };
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => format!("{} is required", property.as_str().unwrap_or_default()),
        ValidationErrorKind::Type { kind } => {
            format!("Invalid type. Expected: {}, given: {}", type_names(kind), json_type(error.instance()))
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => format!("Additional property {} is not allowed", unexpected.join(", ")),
        ValidationErrorKind::Minimum { limit } => format!("Must be greater than or equal to {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("Must be less than or equal to {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("Must be greater than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("Must be less than {limit}"),
        ValidationErrorKind::MinLength { limit } => format!("String length must be greater than or equal to {limit}"),
        ValidationErrorKind::MaxLength { limit } => format!("String length must be less than or equal to {limit}"),
        ValidationErrorKind::MinItems { limit } => format!("Array must have at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("Array must have at most {limit} items"),
        ValidationErrorKind::MinProperties { limit } => format!("Must have at least {limit} properties"),
        ValidationErrorKind::MaxProperties { limit } => format!("Must have at most {limit} properties"),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("Must be a multiple of {multiple_of}"),
        ValidationErrorKind::UniqueItems => "array items must be unique".to_owned(),
        ValidationErrorKind::Contains => "At least one of the items must match".to_owned(),
        ValidationErrorKind::AdditionalItems { .. } => "No additional items allowed on array".to_owned(),
        ValidationErrorKind::Format { format } => format!("Does not match format '{format}'"),
        ValidationErrorKind::Constant { expected_value } => format!("{place} does not match: {expected_value}"),
        ValidationErrorKind::Not { .. } => "Must not validate the schema (not)".to_owned(),
        ValidationErrorKind::OneOfMultipleValid { .. } => "Must validate one and only one schema (oneOf)".to_owned(),
        ValidationErrorKind::OneOfNotValid { context } => {
            return with_first_schema(format!("{place}: Must validate one and only one schema (oneOf)"), context);
        }
        ValidationErrorKind::AnyOf { context } => {
            return with_first_schema(format!("{place}: Must validate at least one schema (anyOf)"), context);
        }
        ValidationErrorKind::PropertyNames { error } => {
            return [format!("{place}: Property name of {} does not match", error.instance())]
                .into_iter()
                .chain(helm_messages(error))
                .collect();
        }
        ValidationErrorKind::Pattern { pattern } => format!("Does not match pattern '{pattern}'"),
        ValidationErrorKind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(ToString::to_string).collect();
            format!("{place} must be one of the following: {}", options.join(", "))
        }
        _ => error.to_string(),
    };
    vec![format!("{place}: {message}")]
}

/// A message about several schemas, and the errors of the first of them.
fn with_first_schema(message: String, schemas: &[Vec<jsonschema::ValidationError<'static>>]) -> Vec<String> {
    [message].into_iter().chain(schemas.first().into_iter().flatten().flat_map(helm_messages)).collect()
}

fn type_names(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(name) => name.to_string(),
        TypeKind::Multiple(types) => format!("[{}]", {
            let mut names: Vec<String> = types.iter().map(|name| name.to_string()).collect();
            names.sort();
            names.join(",")
        }),
    }
}

fn json_type(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(number) if number.is_f64() => "number",
        serde_json::Value::Number(_) => "integer",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    }
}
