//! Condition types and reasons of `WorkloadAccess`, readable by kstatus.

/// Summary. `True` also for a grant that ended as planned: the desired state is reached.
pub const READY: &str = "Ready";
/// A policy admits the request.
pub const ACCEPTED: &str = "Accepted";
/// The RoleBinding is in place.
pub const ACTIVE: &str = "Active";
/// Present only while `True`: refused, and will not heal without a change (kstatus: Failed).
pub const STALLED: &str = "Stalled";
/// Present only while `True`: waiting for something (kstatus: InProgress).
pub const RECONCILING: &str = "Reconciling";
/// Present only while `False`, on a live grant: nothing but Stint ends it.
pub const BACKSTOP: &str = "Backstop";
/// Present on a grant that was given by break-glass: `True` until somebody else has looked at it.
pub const REVIEW_REQUIRED: &str = "ReviewRequired";
/// Present only while `True`, on a live grant in the last tenth of its time.
pub const EXPIRING_SOON: &str = "ExpiringSoon";
/// Present only while `False`, on a live grant: a later end was asked for and is not granted.
pub const EXTENDED: &str = "Extended";

/// Reason of `ExpiringSoon`.
pub const REASON_LAST_TENTH: &str = "LastTenth";
/// Reason of `Extended` when the judge refused the later end.
pub const REASON_EXTENSION_REFUSED: &str = "ExtensionRefused";
/// Reason of `ReviewRequired` until the review.
pub const REASON_BREAK_GLASS: &str = "BreakGlass";
/// Reason of `ReviewRequired` after it.
pub const REASON_REVIEWED: &str = "Reviewed";
/// Reason of `Backstop` of a grant in the whole cluster.
pub const REASON_CLUSTER_SCOPED: &str = "ClusterScoped";
/// Reason of `Ready` of a policy that can be used.
pub const REASON_USABLE: &str = "Usable";
/// Reason of `Ready` of a policy that cannot be used, and so admits nothing.
pub const REASON_INVALID: &str = "Invalid";
/// Reason of `Ready` of a policy that ends and admits nothing because its kill switch is on.
pub const REASON_SUSPENDED: &str = "Suspended";
/// Reason of a live grant.
pub const REASON_ACTIVE: &str = "Active";
/// Reason while `notBefore` lies ahead.
pub const REASON_SCHEDULED: &str = "Scheduled";
/// Reason of a short grant while its objects are made.
pub const REASON_ACTIVATING: &str = "Activating";
/// Reason while a fact that the decision needs is not known yet.
pub const REASON_NOT_READY: &str = "NotReady";
/// Reason while approvals are missing.
pub const REASON_PENDING_APPROVAL: &str = "PendingApproval";
/// Reason of a request that the judge refused.
pub const REASON_REFUSED: &str = "Refused";
/// Reason when the API server refused an object the grant needs (quota, escalation check, admission).
pub const REASON_APPLY_REFUSED: &str = "ApplyRefused";
/// Reason of `Accepted` when a policy admits the request.
pub const REASON_POLICY_SATISFIED: &str = "PolicySatisfied";
/// Present once an ended grant was looked at: `True` if its account is refused what it gave.
pub const VERIFIED: &str = "Verified";
/// Reason of `Verified` when every right that was asked about is refused.
pub const REASON_ACCESS_GONE: &str = "AccessGone";
/// Reason of `Verified`, and of the Event, when something else still gives a right of the ended grant.
pub const REASON_RESIDUAL_ACCESS: &str = "ResidualAccess";
