//! Label selectors and node selector requirements: Kubernetes' types to the model's.

use std::collections::BTreeSet;

use everynode_model::{Labels, NodeSelectorTerm, Operator, Requirement, Selector};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::FieldPath;
use crate::check::Check;
use crate::validate::syntax;

/// `spec.selector` as the model has it. What [`check_selector`] refuses is left out.
pub(crate) fn selector(from: &LabelSelector) -> Selector {
    let labels: Labels = from.match_labels.clone().unwrap_or_default();
    let mut selector = Selector::from_labels(&labels);
    for expression in from.match_expressions.iter().flatten() {
        if let Some(operator) = label_operator(&expression.operator) {
            selector.0.push(requirement(&expression.key, operator, expression.values.as_deref()));
        }
    }
    selector
}

/// One alternative of a node affinity as the model has it. What [`check_term`] refuses is left out.
pub(crate) fn term(from: &core::NodeSelectorTerm) -> NodeSelectorTerm {
    let all = |from: &Option<Vec<core::NodeSelectorRequirement>>| {
        let one = |from: &core::NodeSelectorRequirement| {
            let operator = node_operator(&from.operator)?;
            Some(requirement(&from.key, operator, from.values.as_deref()))
        };
        from.iter().flatten().filter_map(one).collect()
    };
    NodeSelectorTerm {
        match_expressions: all(&from.match_expressions),
        match_fields: all(&from.match_fields),
    }
}

/// Checks keys and values of labels. `at` is where they stand, `path` where Kubernetes tells them.
pub(crate) fn check_labels(
    check: &mut Check,
    path: &FieldPath,
    at: &FieldPath,
    labels: Option<&Labels>,
) {
    for (key, value) in labels.into_iter().flatten() {
        let at = at.key(key);
        check.each_at(path, &at, key.as_str(), syntax::qualified_name(key));
        check.each_at(path, &at, value.as_str(), syntax::label_value(value));
    }
}

/// Checks a label selector's syntax.
pub(crate) fn check_selector(check: &mut Check, path: &FieldPath, selector: &LabelSelector) {
    let labels = path.field("matchLabels");
    check_labels(check, &labels, &labels, selector.match_labels.as_ref());
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let operator = label_operator(&expression.operator);
        let values = expression.values.as_deref().unwrap_or_default();
        check_operator(check, &path, &expression.operator, operator, values);
        check_key_and_values(check, &path, &expression.key, values);
    }
}

/// Checks one alternative of a node affinity. The values of a preference are anybody's.
pub(crate) fn check_term(
    check: &mut Check,
    path: &FieldPath,
    term: &core::NodeSelectorTerm,
    required: bool,
) {
    for (index, expression) in term.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let operator = node_operator(&expression.operator);
        let values = expression.values.as_deref().unwrap_or_default();
        check_operator(check, &path, &expression.operator, operator, values);
        check_key_and_values(check, &path, &expression.key, if required { values } else { &[] });
    }
    for (index, field) in term.match_fields.iter().flatten().enumerate() {
        let path = path.field("matchFields").index(index);
        let values = field.values.as_deref().unwrap_or_default();
        if !["In", "NotIn"].contains(&field.operator.as_str()) {
            check.invalid(path.field("operator"), field.operator.as_str(), NO_OPERATOR);
        } else if values.len() != 1 {
            let rule =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            check.required(path.field("values"), rule);
        }
        if field.key != "metadata.name" {
            let rule = "not a valid field selector key";
            check.invalid(path.field("key"), field.key.as_str(), rule);
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            let path = path.field("values").index(index);
            check.each(&path, value.as_str(), syntax::dns_subdomain(value));
        }
    }
}

/// Checks keys of labels that are given without their values.
pub(crate) fn check_keys(check: &mut Check, path: &FieldPath, keys: &[String]) {
    for (index, key) in keys.iter().enumerate() {
        check.each(&path.index(index), key.as_str(), syntax::qualified_name(key));
    }
}

const NO_OPERATOR: &str = "not a valid selector operator";

fn check_operator(
    check: &mut Check,
    path: &FieldPath,
    written: &str,
    operator: Option<Operator>,
    values: &[String],
) {
    let at = path.field("values");
    match operator {
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            check.required(at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            let rule = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            check.forbidden(at, rule);
        }
        Some(Operator::Gt | Operator::Lt) => match values {
            // Kubernetes takes any text here, and then no node is ever selected.
            [value] if value.parse::<i64>().is_err() => {
                let rule = "for 'Gt', 'Lt' operators, the value must be an integer";
                check.invalid(at.index(0), value.as_str(), rule);
            }
            [_] => {}
            _ => {
                check
                    .required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        },
        Some(_) => {}
        None => check.invalid(path.field("operator"), written, NO_OPERATOR),
    }
}

fn check_key_and_values(check: &mut Check, path: &FieldPath, key: &str, values: &[String]) {
    check.each(&path.field("key"), key, syntax::qualified_name(key));
    for (index, value) in values.iter().enumerate() {
        let path = path.field("values").index(index);
        check.each(&path, value.as_str(), syntax::label_value(value));
    }
}

fn requirement(key: &str, operator: Operator, values: Option<&[String]>) -> Requirement {
    let values: BTreeSet<String> = values.unwrap_or_default().iter().cloned().collect();
    Requirement { key: key.into(), operator, values }
}

fn label_operator(text: &str) -> Option<Operator> {
    node_operator(text).filter(|operator| !matches!(operator, Operator::Gt | Operator::Lt))
}

fn node_operator(text: &str) -> Option<Operator> {
    use Operator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    [In, NotIn, Exists, DoesNotExist, Gt, Lt].into_iter().find(|operator| operator.as_str() == text)
}
