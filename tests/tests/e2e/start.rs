//! Starting and stopping a node, rightly and wrongly.
