//! Parts for the demo and the tests.
//!
//! * [`cloud_simulator`]: an OpenStack on loopback, with faults to inject.
//! * [`openstack`]: a real one.
//! * [`cluster`]: a Kubernetes of booted nodes.
//! * [`guest`]: nodes that boot.
//! * [`kubernetes`]: a real Kubernetes API.
//! * [`mariadb`]: a real MariaDB.
//! * [`node`]: nodes in network namespaces.
//! * [`program`]: programs that run beside the test.
//! * [`publication`]: a publication without a cloud.
//! * [`real_parts`]: what becomes of tests where a part is missing.
//! * [`relay`]: a way out of a namespace.
//! * [`s3`]: a real S3-compatible server.

mod certificates;
pub mod cloud_simulator;
pub mod cluster;
pub mod guest;
pub mod kubernetes;
pub mod mariadb;
pub mod node;
pub mod openstack;
pub mod program;
pub mod publication;
pub mod real_parts;
pub mod relay;
pub mod s3;
