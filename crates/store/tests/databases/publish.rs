use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use multinic_core::published::{DesiredInterface, Publication, Published, Releasing};
use multinic_core::{ConfigKey, Mtu, Slot};
use multinic_store::{PlaceRecord, PublishOutcome, Reached, RememberedNic, Removed, Store, StoreError};

use crate::database::{Database, TABLES};
use crate::on_both;
use crate::world::*;

/// Publishes, and reports every interface of the node as applied in its slot.
async fn publish_and_apply(db: &Database, store: &Store, nics: &[DesiredInterface]) {
    store.publish(&publication(nics.to_vec())).await.unwrap();
    let mut nodes: Vec<&str> = nics.iter().map(|nic| nic.node.as_str()).collect();
    nodes.dedup();
    for node in nodes {
        let state = db.read(node).await;
        let report = |nic: &multinic_core::desired::DesiredNic| {
            applied(nic.entry, nic.revision, nic.slot.unwrap().number().into())
        };
        let reports: Vec<_> = state.nics.iter().map(report).collect();
        db.agent(node).report(&reports, &[]).await.unwrap();
    }
}

async fn success(db: &Database, number: u32) -> String {
    db.sql(&format!("SELECT netplan_success FROM multi_interface WHERE port_id = '{}'", port(number))).await
}

on_both! {
    async fn a_publication_is_read_back_whole(db) {
        let store = db.store().await;
        let mut second = nic("node-a", 1, 2);
        Arc::make_mut(&mut second.interface).addresses = addresses(&["fd00::2/64", "10.1.0.2/8", "10.1.0.3/8"]);
        let nics = [nic("node-a", 0, 1), second];
        let outcome = store.publish(&publication(nics.clone())).await.unwrap();
        assert_eq!(outcome, PublishOutcome { inserted: 2, revision: Some(1), ..PublishOutcome::default() });

        let published = store.published().await.unwrap();
        assert!(published.releasing.is_empty());
        for (read, nic) in published.interfaces.iter().zip(&nics) {
            assert_eq!(read.interface(), Some(&nic.interface));
            assert_eq!(read.slot, Some(nic.slot));
            assert_eq!((&read.node, &read.owner, &read.mac()), (&nic.node, &nic.owner, &nic.interface.mac));
            assert_eq!((read.device(), &read.project), (Some(&nic.interface.device), &Some(nic.project.clone())));
            assert_eq!(read.verified, None);
        }
        let state = db.read("node-a").await;
        assert!(state.node_known && state.invalid.is_empty() && state.tombstones.is_empty());
        assert_eq!(state.position.unwrap().revision, 1);
        assert_eq!(state.nics[1].addresses, nics[1].interface.addresses);
        // The older columns carry the first IPv4 address, and the subnet's table its CIDR.
        let old = "SELECT mi.address, mi.cidr, mi.mtu, ms.cidr FROM multi_interface mi \
                   JOIN multi_subnet ms ON ms.subnet_id = mi.subnet_id ORDER BY mi.id";
        assert_eq!(db.sql(old).await.lines().nth(1), Some("10.1.0.2\t10.0.0.0/8\t1450\t10.0.0.0/8"));
    }

    async fn an_unchanged_publication_writes_nothing(db) {
        let store = db.store().await;
        let gone = nic("node-b", 0, 99);
        store.publish(&publication([gone.clone()])).await.unwrap();
        let mut same = without(publication((1..40).map(|n| nic("node-a", i64::from(n), n))), &[&gone]);
        same.settled.insert(owner(), "0f".repeat(32));
        same.forgotten.push(ConfigKey::new("default", "gone"));
        let first = store.publish(&same).await.unwrap();
        assert_eq!((first.inserted, first.removed, first.revision), (39, 1, Some(2)));
        for table in TABLES {
            db.forbid_writes(table).await;
        }
        let again = store.publish(&same).await.unwrap();
        assert_eq!(again, PublishOutcome { unchanged: 39, ..PublishOutcome::default() });
        // A restart finds the tables as they should be, too.
        db.store().await;
    }

    async fn only_a_row_whose_content_changed_loses_its_report(db) {
        let store = db.store().await;
        let mut nics: Vec<_> = (0..6).map(|n| nic("node-a", i64::from(n), n + 1)).collect();
        publish_and_apply(db, &store, &nics).await;
        db.sql("UPDATE multi_interface SET modified_at = '2001-02-03 04:05:06'").await;
        Arc::make_mut(&mut nics[0].interface).mtu = Mtu::new(9000).unwrap();
        nics[1].slot = Slot::new(11).unwrap();
        Arc::make_mut(&mut nics[2].interface).addresses = addresses(&["10.1.0.3/8", "10.1.1.3/8"]);
        nics[3].owner = ConfigKey::new("default", "other");
        Arc::make_mut(&mut nics[4].interface).network = "4e000000-0000-4000-8000-000000000002".into();
        let outcome = store.publish(&publication(nics)).await.unwrap();
        assert_eq!((outcome.updated, outcome.unchanged, outcome.revision), (5, 1, Some(2)));
        let rows = db.sql(
            "SELECT netplan_success, revision, COALESCE(observed_name, '-'), \
             CASE WHEN modified_at = '2001-02-03 04:05:06' THEN 'old' ELSE 'new' END FROM multi_interface ORDER BY id",
        ).await;
        let expected = ["0\t2\tmultinic0\tnew", "0\t2\tmultinic1\tnew", "0\t2\tmultinic2\tnew",
            "1\t1\tmultinic3\tnew", "1\t1\tmultinic4\tnew", "1\t1\tmultinic5\told"];
        assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    }

    async fn a_verified_name_is_remembered_beside_the_published_slot(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 2, 1)])).await.unwrap();
        let state = db.read("node-a").await;
        db.agent("node-a").report(&[applied(state.nics[0].entry, 1, 7)], &[]).await.unwrap();
        let read = &store.published().await.unwrap().interfaces[0];
        assert_eq!((read.slot, read.verified), (Some(Slot::new(2).unwrap()), Some(Slot::new(7).unwrap())));
    }

    async fn a_removed_interface_is_a_tombstone_and_older_agents_do_not_see_it(db) {
        let store = db.store().await;
        let (kept, gone) = (nic("node-a", 0, 1), nic("node-a", 1, 2));
        publish_and_apply(db, &store, &[kept.clone(), gone.clone()]).await;
        let outcome = store.publish(&without(publication([kept.clone()]), &[&gone])).await.unwrap();
        assert_eq!((outcome.removed, outcome.unchanged), (1, 1));

        let row = format!("SELECT status, attached_node_name, attached_node_id, deleted_at IS NULL \
                           FROM multi_interface WHERE port_id = '{}'", port(2));
        assert_eq!(db.sql(&row).await, "deleted\tNULL\tNULL\t0");
        let by_name = "SELECT macaddress FROM multi_interface WHERE attached_node_name = 'node-a'";
        assert_eq!(db.sql(by_name).await, mac(1));
        let by_status = "SELECT mi.macaddress FROM multi_interface mi \
             JOIN node_table n ON n.attached_node_id = mi.attached_node_id \
             JOIN multi_subnet s ON s.subnet_id = mi.subnet_id WHERE n.attached_node_name = 'node-a' \
             AND mi.status = 'active' AND n.status = 'active' AND s.status = 'active'";
        assert_eq!(db.sql(by_status).await, mac(1));

        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.tombstones.len()), (1, 1));
        assert_eq!(state.tombstones[0].mac, gone.interface.mac);
        let published = store.published().await.unwrap();
        assert_eq!(published.interfaces.len(), 1);
        let releasing = Releasing { node: gone.node, mac: gone.interface.mac, slot: Some(gone.slot) };
        assert_eq!(published.releasing, [releasing]);
    }

    async fn a_slot_is_free_when_the_node_reported_the_release(db) {
        let store = db.store().await;
        let gone = nic("node-a", 1, 2);
        store.publish(&publication([gone.clone()])).await.unwrap();
        store.publish(&without(publication([]), &[&gone])).await.unwrap();
        let state = db.read("node-a").await;
        assert!(state.node_known && state.nics.is_empty());
        let released = [state.tombstones[0].entry.unwrap()];
        db.agent("node-b").report(&[], &released).await.unwrap();
        assert_eq!(store.published().await.unwrap().releasing.len(), 1, "another node's word does not count");
        db.agent("node-a").report(&[], &released).await.unwrap();
        assert!(store.published().await.unwrap().releasing.is_empty());
        let state = db.read("node-a").await;
        assert!(state.node_known && state.tombstones.is_empty());
    }

    async fn purging_frees_slots_and_forgets_what_nothing_names(db) {
        let store = db.store().await;
        let (kept, gone) = (nic_of("node-a", 1, 0, 1), nic_of("node-b", 2, 0, 2));
        store.publish(&publication([kept.clone(), gone.clone()])).await.unwrap();
        store.publish(&without(publication([kept]), &[&gone])).await.unwrap();
        assert_eq!(store.purge(Duration::from_secs(3600), false).await.unwrap(), 0);
        assert_eq!(store.published().await.unwrap().releasing.len(), 1);
        assert_eq!(store.purge(Duration::ZERO, false).await.unwrap(), 2);
        let published = store.published().await.unwrap();
        assert_eq!((published.releasing.len(), published.interfaces.len()), (0, 1));
        assert_eq!(db.sql("SELECT attached_node_name FROM node_table").await, "node-a");
        assert!(!db.read("node-b").await.node_known);
        assert_eq!(db.sql("SELECT COUNT(*) FROM multi_subnet").await, "1");
    }

    async fn a_nic_of_which_only_the_slot_is_remembered_is_nobodys_until_it_is_published(db) {
        let store = db.store().await;
        let remembered = |number: u32, slot: i64, listed: bool| RememberedNic {
            node: "node-a".parse().unwrap(),
            mac: mac(number).parse().unwrap(),
            slot: Some(Slot::new(slot).unwrap()),
            listed,
        };
        assert!(!store.is_restoring().await.unwrap());
        store.set_restoring(true).await.unwrap();
        assert!(store.is_restoring().await.unwrap());
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        // The first is published, the last said twice.
        let known = [remembered(1, 5, true), remembered(2, 3, true), remembered(3, 1, false), remembered(2, 7, true)];
        assert_eq!(store.remember(&known).await.unwrap(), 2);
        assert_eq!(store.unclaimed(None).await.unwrap(), [remembered(2, 3, true)]);
        assert_eq!(store.unclaimed(Some(Duration::from_secs(3600))).await.unwrap().len(), 1);
        let published = store.published().await.unwrap();
        let slots: Vec<_> = published.releasing.iter().map(|it| it.slot.unwrap().number()).collect();
        assert_eq!((published.interfaces.len(), slots.len(), slots.contains(&3) && slots.contains(&1)), (1, 2, true));
        assert!(db.read("node-a").await.tombstones.is_empty(), "nothing is taken away because of them");
        assert!(store.removed().await.unwrap().is_empty());
        store.publish(&publication([nic("node-a", 0, 1), nic("node-a", 3, 2)])).await.unwrap();
        assert!(store.unclaimed(None).await.unwrap().is_empty());
        assert_eq!(store.published().await.unwrap().releasing.len(), 1);
        store.purge(Duration::ZERO, false).await.unwrap();
        assert!(store.published().await.unwrap().releasing.is_empty());
        store.set_restoring(false).await.unwrap();
        assert!(!store.is_restoring().await.unwrap());
    }

    async fn places_are_kept_by_configuration_until_they_are_forgotten(db) {
        let store = db.store().await;
        let owner = |name: &str| ConfigKey::new("default", name);
        let place = |name: &str, place: &str, choice: &str| PlaceRecord {
            owner: owner(name),
            place: place.to_owned(),
            choice: choice.to_owned(),
            options: (name == "b").then(|| r#"{"all":{}}"#.to_owned()),
            number: 0,
        };
        let record =
            |name: &str, at: &str, choice: &str, number| PlaceRecord { number, ..place(name, at, choice) };
        let long = "p".repeat(3000);
        assert_eq!(store.record_places(&[place("a", "one", "1"), place("b", &long, "1")]).await.unwrap(), 1);
        assert_eq!(store.record_places(&[place("a", "one", "2"), place("a", "two", "2")]).await.unwrap(), 2);
        let mut places = store.places().await.unwrap();
        places.sort();
        assert_eq!(places, [record("a", "one", "2", 2), record("a", "two", "2", 2), record("b", &long, "1", 1)]);
        store.forget_place(&ConfigKey::new("default", "a"), "one").await.unwrap();
        assert_eq!(store.places().await.unwrap(), [record("a", "two", "2", 2), record("b", &long, "1", 1)]);
    }

    async fn what_was_taken_away_is_read_without_the_node_and_released_in_its_place(db) {
        let store = db.store().await;
        let [stays, gone] = [nic("node-a", 0, 1), nic("node-a", 1, 2)];
        store.publish(&publication([stays.clone(), gone.clone()])).await.unwrap();
        assert!(store.removed().await.unwrap().is_empty());
        store.publish(&without(publication([stays]), &[&gone])).await.unwrap();
        let removed = store.removed().await.unwrap();
        let expected = Removed {
            id: removed[0].id,
            node: gone.node.clone(),
            mac: gone.interface.mac,
            owner: Some(gone.owner.clone()),
            server: Some(gone.interface.device.clone()),
            project: Some(gone.project.clone()),
            released: false,
            delivered: Reached::Places(BTreeSet::new()),
        };
        assert_eq!(removed, [expected]);
        let done = [(gone.node.clone(), gone.interface.mac)];
        assert_eq!(store.release(&done).await.unwrap(), 1);
        assert_eq!(store.release(&done).await.unwrap(), 0);
        assert!(store.removed().await.unwrap()[0].released);
        assert!(store.published().await.unwrap().releasing.is_empty(), "its slot is free");
    }

    async fn a_removal_stays_until_it_has_reached_every_place(db) {
        let store = db.store().await;
        let [one, two] = [nic("node-a", 0, 1), nic("node-a", 1, 2)];
        store.publish(&publication([one.clone(), two.clone()])).await.unwrap();
        store.publish(&without(publication([]), &[&one, &two])).await.unwrap();
        let ids: Vec<_> = store.removed().await.unwrap().iter().map(|it| it.id).collect();
        store.note_delivered(&[(ids[0], "here".to_owned()), (ids[1], "here".to_owned())], &[ids[1]]).await.unwrap();
        let removed = store.removed().await.unwrap();
        assert!(removed[0].delivered.has("here") && !removed[0].delivered.has("there"));
        assert_eq!(removed[1].delivered, Reached::Everything);
        assert_eq!(store.release_delivered(&ids, Duration::from_secs(60)).await.unwrap(), 0, "it is too soon");
        assert_eq!(store.release_delivered(&ids, Duration::ZERO).await.unwrap(), 1);
        store.purge(Duration::ZERO, true).await.unwrap();
        let left = store.removed().await.unwrap();
        // The tombstone of its interface is gone: it knows itself whose it was.
        assert_eq!((left.len(), &left[0]), (1, &removed[0]));
        store.purge(Duration::ZERO, false).await.unwrap();
        assert!(store.removed().await.unwrap().is_empty());
        assert_eq!(db.sql("SELECT COUNT(*) FROM multi_removal_place").await, "0");
    }

    async fn a_removal_knows_whose_it_was_when_its_port_is_elsewhere(db) {
        let store = db.store().await;
        let before = nic_of("node-a", 1, 3, 1);
        store.publish(&publication([before.clone()])).await.unwrap();
        let mut after = nic_of("node-b", 2, 0, 1);
        after.owner = ConfigKey::new("default", "another");
        store.publish(&publication([after])).await.unwrap();
        let removed = store.removed().await.unwrap();
        assert_eq!(removed[0].owner, Some(before.owner));
        assert_eq!(removed[0].server, Some(before.interface.device.clone()));
    }

    async fn a_port_that_moves_leaves_a_removal_behind(db) {
        let store = db.store().await;
        let before = nic_of("node-a", 1, 3, 1);
        publish_and_apply(db, &store, std::slice::from_ref(&before)).await;
        let after = nic_of("node-b", 2, 0, 1);
        // With and without the planner's saying so: the row itself tells where the port was.
        let outcome = store.publish(&without(publication([after.clone()]), &[&before])).await.unwrap();
        assert_eq!((outcome.updated, outcome.removed), (1, 0));
        let (a, b) = (db.read("node-a").await, db.read("node-b").await);
        assert_eq!((a.nics.len(), a.tombstones.len()), (0, 1));
        assert_eq!((b.nics.len(), b.tombstones.len()), (1, 0));
        assert!(!b.nics[0].reported.applied);
        assert_eq!(b.nics[0].reported.name, None);
        let releasing = store.published().await.unwrap().releasing;
        assert_eq!(releasing, [Releasing { node: before.node.clone(), mac: before.interface.mac, slot: Some(before.slot) }]);
        assert_eq!(db.sql("SELECT reason FROM multi_removal").await, "PortGone");
        // And back, not announced.
        store.publish(&publication([before])).await.unwrap();
        let (a, b) = (db.read("node-a").await, db.read("node-b").await);
        assert_eq!((a.nics.len(), a.tombstones.len()), (1, 0));
        assert_eq!((b.nics.len(), b.tombstones.len()), (0, 1));
        assert_eq!(db.sql("SELECT reason FROM multi_removal").await, "PortMoved");
    }

    async fn a_port_whose_mac_changes_leaves_a_removal_behind(db) {
        let store = db.store().await;
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        let mut changed = nic("node-a", 1, 1);
        Arc::make_mut(&mut changed.interface).mac = mac(99).parse().unwrap();
        store.publish(&publication([changed.clone()])).await.unwrap();
        let state = db.read("node-a").await;
        assert_eq!(state.nics[0].mac, changed.interface.mac);
        assert_eq!(state.tombstones[0].mac.to_string(), mac(1));
    }

    async fn a_removed_port_that_comes_back_is_revived(db) {
        let store = db.store().await;
        let port = nic("node-a", 4, 1);
        publish_and_apply(db, &store, std::slice::from_ref(&port)).await;
        let row = db.sql("SELECT id FROM multi_interface").await;
        store.publish(&without(publication([]), &[&port])).await.unwrap();
        let outcome = store.publish(&publication([port.clone()])).await.unwrap();
        assert_eq!((outcome.revived, outcome.inserted, outcome.updated), (1, 0, 0));
        assert_eq!(db.sql("SELECT id FROM multi_interface").await, row);
        let state = db.read("node-a").await;
        assert!(state.tombstones.is_empty());
        assert_eq!((state.nics[0].slot, state.nics[0].reported.applied), (Some(port.slot), false));
        assert!(store.published().await.unwrap().releasing.is_empty());
    }

    async fn what_is_released_is_the_slot_that_the_node_verified(db) {
        let store = db.store().await;
        let port = nic("node-a", 4, 1);
        store.publish(&publication([port.clone()])).await.unwrap();
        let entry = db.read("node-a").await.nics[0].clone();
        db.agent("node-a").report(&[applied(entry.entry, entry.revision, 2)], &[]).await.unwrap();
        store.publish(&without(publication([]), &[&port])).await.unwrap();
        let published = store.published().await.unwrap();
        assert_eq!(published.releasing[0].slot, Some(Slot::new(2).unwrap()));
    }

    async fn a_removal_is_withdrawn_when_another_port_brings_its_mac_back(db) {
        let store = db.store().await;
        let gone = nic("node-a", 0, 1);
        store.publish(&publication([gone.clone()])).await.unwrap();
        store.publish(&without(publication([]), &[&gone])).await.unwrap();
        let mut other = nic("node-a", 0, 2);
        Arc::make_mut(&mut other.interface).mac = gone.interface.mac;
        store.publish(&publication([other.clone()])).await.unwrap();
        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.tombstones.len()), (1, 0));
        // And it is not even recorded when both happen at once.
        let mut third = nic("node-a", 0, 3);
        Arc::make_mut(&mut third.interface).mac = gone.interface.mac;
        store.publish(&without(publication([third]), &[&other])).await.unwrap();
        let state = db.read("node-a").await;
        assert_eq!((state.nics.len(), state.tombstones.len()), (1, 0));
    }

    async fn a_removal_of_what_is_gone_already_changes_nothing(db) {
        let store = db.store().await;
        let gone = nic("node-a", 0, 1);
        store.publish(&publication([gone.clone()])).await.unwrap();
        let removal = without(publication([]), &[&gone]);
        store.publish(&removal).await.unwrap();
        let tombstone = db.read("node-a").await.tombstones[0].entry.unwrap();
        assert_eq!(store.publish(&removal).await.unwrap().revision, None);
        db.agent("node-a").report(&[], &[tombstone]).await.unwrap();
        assert_eq!(store.publish(&removal).await.unwrap().revision, None);
        assert!(db.read("node-a").await.tombstones.is_empty());
    }

    async fn what_a_publication_does_not_name_stays(db) {
        let store = db.store().await;
        store.publish(&publication([nic_of("node-a", 1, 0, 1), nic_of("node-b", 2, 0, 2)])).await.unwrap();
        let outcome = store.publish(&publication([nic_of("node-a", 1, 0, 1)])).await.unwrap();
        assert_eq!(outcome.revision, None);
        assert_eq!(store.publish(&Publication::default()).await.unwrap(), PublishOutcome::default());
        assert_eq!(store.published().await.unwrap().interfaces.len(), 2);
    }

    async fn spec_hashes_are_written_with_what_they_settle(db) {
        let store = db.store().await;
        let (kept, dropped) = (owner(), ConfigKey::new("default", "dropped"));
        let mut first = publication([nic("node-a", 0, 1)]);
        first.settled.insert(kept.clone(), "aa".repeat(32));
        first.settled.insert(dropped.clone(), "bb".repeat(32));
        db.forbid_writes("cr_state").await;
        assert!(store.publish(&first).await.is_err());
        let nothing = Published { revision: Some(0), ..Published::default() };
        assert_eq!(store.published().await.unwrap(), nothing, "all or nothing");
        db.allow_writes("cr_state").await;
        store.publish(&first).await.unwrap();
        first.settled = [(kept.clone(), "cc".repeat(32))].into();
        first.forgotten = vec![dropped];
        assert_eq!(store.publish(&first).await.unwrap().revision, Some(2));
        assert_eq!(store.published().await.unwrap().spec_hashes, [(kept.clone(), "cc".repeat(32))].into());
        store.forget_config(&kept).await.unwrap();
        assert!(store.published().await.unwrap().spec_hashes.is_empty());
    }

    async fn a_port_published_twice_is_refused(db) {
        let store = db.store().await;
        let error = store.publish(&publication([nic("node-a", 0, 1), nic("node-b", 0, 1)])).await.unwrap_err();
        assert!(error.to_string().contains("node-a") && error.to_string().contains("node-b"), "{error}");
        assert!(!error.retry());
    }

    async fn a_subnet_that_nobody_described_does_not_stop_its_interfaces(db) {
        let store = db.store().await;
        let mut bare = publication([nic("node-a", 0, 1)]);
        bare.subnets.clear();
        store.publish(&bare).await.unwrap();
        store.publish(&publication([nic("node-a", 0, 1)])).await.unwrap();
        assert_eq!(db.sql("SELECT subnet_name FROM multi_subnet").await, "lab-net");
    }

    async fn many_interfaces_are_published_in_bounded_statements(db) {
        let store = db.store().await;
        let fleet = |mtu: i64| {
            let nics = (0..1500).map(|n| {
                let mut nic = nic_of(&format!("node-{}", n / 10), n / 10, i64::from(n % 10), n + 1);
                Arc::make_mut(&mut nic.interface).mtu = Mtu::new(mtu).unwrap();
                nic
            });
            publication(nics)
        };
        assert_eq!(store.publish(&fleet(1450)).await.unwrap().inserted, 1500);
        assert_eq!(store.publish(&fleet(1400)).await.unwrap().updated, 1500);
        assert_eq!(store.publish(&fleet(1400)).await.unwrap().unchanged, 1500);
        let published = store.published().await.unwrap();
        let expected = fleet(1400);
        assert!(published.interfaces.iter().zip(&expected.interfaces).all(|(a, b)| a.interface() == Some(&b.interface)));
        let gone: Vec<_> = expected.interfaces.iter().collect();
        assert_eq!(store.publish(&without(publication([]), &gone)).await.unwrap().removed, 1500);
        assert_eq!(store.published().await.unwrap().releasing.len(), 1500);
    }

    async fn a_read_in_the_middle_of_a_publication_sees_the_old_state_or_the_new_one(db) {
        let store = db.store().await;
        let fleet = |mtu: i64| publication((0..200).map(|n| {
            let mut nic = nic("node-a", i64::from(n % 64), n + 1);
            Arc::make_mut(&mut nic.interface).mtu = Mtu::new(mtu).unwrap();
            nic
        }));
        store.publish(&fleet(1400)).await.unwrap();
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                for round in 0..12 {
                    store.publish(&fleet(if round % 2 == 0 { 1450 } else { 1400 })).await.unwrap();
                }
            }
        });
        let mut reads = 0;
        while !writer.is_finished() || reads == 0 {
            let state = db.read("node-a").await;
            let position = state.position.unwrap().revision;
            let revisions: BTreeSet<_> = state.nics.iter().map(|nic| (nic.mtu, nic.revision)).collect();
            assert_eq!((state.nics.len(), revisions.len()), (200, 1), "{revisions:?}");
            assert_eq!(revisions.first().unwrap().1, position);
            let published = store.published().await.unwrap();
            let mtus: BTreeSet<_> = published.interfaces.iter().map(|i| i.interface().unwrap().mtu).collect();
            assert_eq!(mtus.len(), 1);
            reads += 1;
        }
        writer.await.unwrap();
    }

    async fn two_controllers_at_once_lose_nothing(db) {
        let settings = db.settings();
        let (a, b) = tokio::join!(Store::open(&settings), Store::open(&settings));
        let (a, b) = (a.unwrap(), b.unwrap());
        let half = |node: &'static str, from: u32| publication((from..from + 60).map(move |n| nic_of(node, from, i64::from(n % 60), n)));
        let (first, second) = (half("node-a", 1), half("node-b", 101));
        let (one, two) = tokio::join!(a.publish(&first), b.publish(&second));
        let mut revisions = [one.unwrap().revision.unwrap(), two.unwrap().revision.unwrap()];
        revisions.sort_unstable();
        assert_eq!(revisions, [1, 2]);
        assert_eq!(a.published().await.unwrap().interfaces.len(), 120);
    }

    async fn what_was_decided_on_an_older_state_is_not_published(db) {
        let store = db.store().await;
        let (one, two) = (nic("node-a", 0, 1), nic("node-a", 1, 2));
        let based_on = store.published().await.unwrap().revision;
        let decided = Publication { based_on, ..publication([one.clone()]) };
        store.publish(&decided).await.unwrap();
        // Another controller decided on the same state, and is later.
        let late = Publication { based_on, ..without(publication([two.clone()]), &[&one]) };
        let error = store.publish(&late).await.unwrap_err();
        assert!(matches!(error, StoreError::Overtaken { .. }) && error.retry(), "{error}");
        let published = store.published().await.unwrap();
        assert_eq!(published.interfaces.len(), 1);
        let again = Publication { based_on: published.revision, ..publication([one, two]) };
        assert_eq!(store.publish(&again).await.unwrap().inserted, 1);
    }

    async fn agents_that_report_while_the_controller_publishes_do_not_stop_it(db) {
        let store = db.store().await;
        let fleet = |mtu: i64| publication((0..120).map(|n| {
            let mut nic = nic_of(&format!("node-{}", n / 10), n / 10, i64::from(n % 10), n + 1);
            Arc::make_mut(&mut nic.interface).mtu = Mtu::new(mtu).unwrap();
            nic
        }));
        store.publish(&fleet(1400)).await.unwrap();
        let agents = (0..12).map(|node| {
            let agent = db.agent(&format!("node-{node}"));
            tokio::spawn(async move {
                for _ in 0..6 {
                    let state = agent.read().await.unwrap();
                    let reports: Vec<_> = state.nics.iter().map(|nic| applied(nic.entry, nic.revision, 0)).collect();
                    agent.report(&reports, &[]).await.unwrap();
                }
            })
        });
        let agents: Vec<_> = agents.collect();
        for round in 0..6 {
            store.publish(&fleet(1401 + round)).await.unwrap();
        }
        for agent in agents {
            agent.await.unwrap();
        }
        let published = store.published().await.unwrap();
        assert!(published.interfaces.iter().all(|i| i.interface().unwrap().mtu.bytes() == 1406));
        // Whatever is marked as applied was reported for what is there now.
        for node in 0..12 {
            for nic in db.read(&format!("node-{node}")).await.nics {
                assert_eq!(nic.mtu.bytes(), 1406);
            }
        }
    }

    async fn two_rows_of_one_success_are_told_apart(db) {
        let store = db.store().await;
        publish_and_apply(db, &store, &[nic("node-a", 0, 1), nic("node-a", 1, 2)]).await;
        let mut changed = nic("node-a", 1, 2);
        Arc::make_mut(&mut changed.interface).mtu = Mtu::new(1300).unwrap();
        store.publish(&publication([nic("node-a", 0, 1), changed])).await.unwrap();
        assert_eq!((success(db, 1).await.as_str(), success(db, 2).await.as_str()), ("1", "0"));
    }
}
