//! `spec.updateStrategy`.

use everynode_model::IntOrPercent;
use k8s_openapi::api::apps::v1::DaemonSetUpdateStrategy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::FieldPath;
use crate::check::Check;

/// Checks the strategy, whose defaults are filled in.
pub(super) fn check(
    check: &mut Check,
    path: &FieldPath,
    strategy: Option<&DaemonSetUpdateStrategy>,
) {
    let Some(strategy) = strategy else { return };
    let kind = strategy.type_.as_deref().unwrap_or_default();
    check.one_of(path.field("type"), kind, &["OnDelete", "RollingUpdate"]);
    let Some(rolling) = strategy.rolling_update.as_ref().filter(|_| kind == "RollingUpdate") else {
        return;
    };
    let path = path.field("rollingUpdate");
    let unavailable = read(check, path.field("maxUnavailable"), rolling.max_unavailable.as_ref());
    let surge = read(check, path.field("maxSurge"), rolling.max_surge.as_ref());
    let (Some(unavailable), Some(surge)) = (unavailable, surge) else { return };
    if !surge.is_zero() {
        let rule = "surge is not supported yet: an old and a new pod never run side by side; \
                    leave maxSurge at 0 and set maxUnavailable";
        check.invalid(path.field("maxSurge"), surge.to_string(), rule);
    } else if unavailable.is_zero() {
        check.required(path.field("maxUnavailable"), "cannot be 0 when `maxSurge` is 0");
    }
}

/// The number or share, where it is one; else the error has been noted.
fn read(check: &mut Check, path: FieldPath, value: Option<&IntOrString>) -> Option<IntOrPercent> {
    match value? {
        IntOrString::Int(number) => match u32::try_from(*number) {
            Ok(number) => Some(IntOrPercent::Int(number)),
            Err(_) => {
                check.invalid(path, *number, "must be greater than or equal to 0");
                None
            }
        },
        IntOrString::String(text) => match IntOrPercent::parse(text) {
            Ok(percent @ IntOrPercent::Percent(0..=100)) => Some(percent),
            Ok(IntOrPercent::Percent(_)) => {
                check.invalid(path, text.as_str(), "must not be greater than 100%");
                None
            }
            Ok(IntOrPercent::Int(_)) | Err(_) => {
                let rule = "must be an integer or a percentage, such as 5 or \"10%\"";
                check.invalid(path, Value::from(text.as_str()), rule);
                None
            }
        },
    }
}
