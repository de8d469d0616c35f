//! Two controllers over one MariaDB.

use multinic_testbed::kubernetes::ControlPlane;
use multinic_testbed::mariadb::MariaDb;
use multinic_testbed::node::Switch;

use crate::agreement::{assert_nodes, wait_agreed};
use crate::cloud::{Cloud, macs_from};
use crate::node::{Nic, Node};
use crate::programs::Deployment;
use crate::site::Site;
use crate::waiting::wait;

#[test]
fn of_two_controllers_one_works_and_when_it_dies_the_other_goes_on() {
    if !ControlPlane::installed() || !MariaDb::installed() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let database = MariaDb::start().unwrap();
    database.create_database("multinic").unwrap();
    let (site, cloud, switch) = (Site::new(plane), Cloud::new(), Switch::new().unwrap());
    let name = format!("{}-worker", site.namespace);
    let server = cloud.simulator.add_server(&name);
    let mut nics = vec![Nic::new(&cloud.attach(&server), 0)];
    let mut node = Node::new(&site, plane, None, &switch, &name, &server);
    node.plug(&switch, &nics[0]);
    node.start_agent();
    let mut deployment = Deployment::new(&site, plane, None);
    deployment.set("DATABASE_URL", &database.url("multinic"));
    let mut leader = deployment.start("one");
    wait(|| leader.last_lines(), || leader.leads());
    let mut other = deployment.start("two");
    site.apply_config("tenant", &cloud.spec(&[&server]));
    wait_agreed(&site, &leader, "tenant", &node, &[&nics[0]]);
    let guard = node.guard(&macs_from(2));

    for round in 1..3 {
        wait(|| other.last_lines(), || other.get("/readyz").0 == 200);
        assert!(leader.leads() && !other.leads());
        // Replicas agree.
        let records = || other.records();
        wait(|| format!("{:?}", records()), || records() == leader.records());
        let nic = Nic::new(&cloud.attach(&server), round);
        node.plug(&switch, &nic);
        leader.kill();
        nics.push(nic);
        wait(|| other.last_lines(), || other.leads());
        wait_agreed(&site, &other, "tenant", &node, &nics.iter().collect::<Vec<_>>());
        leader = other;
        other = deployment.start("again");
    }
    // One that stops gives the lease back.
    leader.stop();
    wait(|| other.last_lines(), || other.leads());
    let gone = nics.pop().unwrap();
    cloud.simulator.delete_port(&gone.port.as_str().into()).unwrap();
    wait_agreed(&site, &other, "tenant", &node, &nics.iter().collect::<Vec<_>>());
    node.wait_released(&gone);
    assert_nodes(&site, &other, &[&node]);
    node.assert_untouched(guard);
    other.stop();
    node.stop_agent();
}
