//! The agent on nodes that boot, with their own systemd, udev and network manager. Every scene is played on every kind of
//! node.
//!
//! `make test-nodes` runs these; they need root and, the first time, some minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod boots;
mod cleanup;
mod deaths;
mod findings;
mod fleet;
mod guards;
mod kinds;
mod life;
mod managers;
mod node;
mod options;
mod router;
mod source;
mod times;
mod wanted;

/// The scenes, as one test for each kind of node.
macro_rules! scenes {
    ($kind:ident = $value:expr; $($folder:ident::$scene:ident),* $(,)?) => {
        mod $kind {
            $(
                #[test]
                #[ignore = "needs root and builds a file system: make test-nodes"]
                fn $scene() {
                    if multinic_testbed::guest::Rootfs::supported() {
                        crate::$folder::$scene($value);
                    }
                }
            )*
        }
    };
}

/// The kinds of nodes, each with every scene.
macro_rules! kinds {
    ($($kind:ident = $value:expr),* $(,)?) => {
        $(scenes! {
            $kind = $value;
            life::nics_come_change_drift_and_go,
            boots::a_reboot_brings_names_addresses_and_mtu_back,
            boots::a_power_cut_brings_them_back_too,
            boots::what_a_boot_made_goes_for_good_once_something_else_is_asked_for,
            managers::nics_outlive_a_restart_of_their_manager,
            managers::a_nic_with_a_lease_becomes_ours_and_the_nodes_own_never_does,
            options::a_reboot_brings_routes_rules_and_settings_back,
            deaths::a_dead_agent_leaves_nothing_half_done,
            deaths::a_nic_that_stepped_aside_stays_in_service_when_the_next_change_fails,
            guards::a_node_goes_back_by_itself_when_its_agent_is_dead_and_gone,
            guards::a_change_that_cuts_the_node_off_is_undone,
            guards::nothing_is_changed_where_nothing_could_be_undone,
            cleanup::a_clean_up_leaves_the_node_as_it_was,
        })*
    };
}

kinds! {
    bookworm_netplan = &crate::kinds::BOOKWORM_NETPLAN,
    trixie_netplan = &crate::kinds::TRIXIE_NETPLAN,
    trixie_networkd = &crate::kinds::TRIXIE_NETWORKD,
    bookworm_ifcfg = &crate::kinds::BOOKWORM_IFCFG,
    trixie_network_manager = &crate::kinds::TRIXIE_NETWORK_MANAGER,
}

// How networkd treats others and is told of us, is seen by these.
scenes! {
    bookworm_netplan_as_shipped = &crate::kinds::BOOKWORM_NETPLAN_AS_SHIPPED;
    life::nics_come_change_drift_and_go,
    boots::a_reboot_brings_names_addresses_and_mtu_back,
    boots::what_a_boot_made_goes_for_good_once_something_else_is_asked_for,
    managers::a_nic_with_a_lease_becomes_ours_and_the_nodes_own_never_does,
}
scenes! {
    trixie_networkd_as_shipped = &crate::kinds::TRIXIE_NETWORKD_AS_SHIPPED;
    life::nics_come_change_drift_and_go,
    boots::a_reboot_brings_names_addresses_and_mtu_back,
    boots::what_a_boot_made_goes_for_good_once_something_else_is_asked_for,
    managers::a_nic_with_a_lease_becomes_ours_and_the_nodes_own_never_does,
}

// The same as trixie_network_manager, but for who is asked for which backend it is to be.
scenes! {
    bookworm_netplan_network_manager = &crate::kinds::BOOKWORM_NETPLAN_NETWORK_MANAGER;
    life::nics_come_change_drift_and_go,
    boots::a_reboot_brings_names_addresses_and_mtu_back,
    managers::a_nic_with_a_lease_becomes_ours_and_the_nodes_own_never_does,
}
