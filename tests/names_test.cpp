#include <stowage/names.hpp>

#include <rapidcheck.h>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "support/vectors.hpp"

using namespace stowage;

namespace {

VolumeName volume(const std::string& text) { return *VolumeName::parse(text); }

Result<VolumeParts> parse(StorageType type, const std::string& text) {
  return VolumeName::parse(text).and_then([&](const VolumeName& name) { return parse_volume_name(type, name); });
}

std::string next(std::uint64_t vmid, const std::vector<std::string>& existing) {
  const auto name = next_free_name(VmId{vmid}, existing);
  return name ? name->str() : name.error().detail();
}

}  // namespace

TEST_CASE("volume names are taken apart as the reference does") {
  int rows = 0;
  for (const auto& row : testing::vectors("volname")) {
    const std::string type = testing::text(row, "type");
    const Features* features = find_features(type);
    if (features == nullptr) {
      CHECK(type == "lvm");  // thick LVM: the reference has it, stowage does not
      continue;
    }
    ++rows;
    const std::string text = testing::text(row, "volname");
    CAPTURE(type, text);
    const auto parts = parse(features->type, text);
    if (row.contains("error") || row.contains("defect")) {
      REQUIRE_FALSE(parts);
      CHECK(parts.error().code() == Errc::parse_failed);
      CHECK(parts.error().detail().find(text) != std::string::npos);
      continue;
    }
    REQUIRE(parts);
    const auto& expected = row["parsed"];
    CHECK(parts->name == testing::text(expected, "name"));
    CHECK(parts->vmid == testing::text(expected, "vmid"));
    CHECK(parts->base.value_or("") == testing::text(expected, "basename"));
    CHECK(parts->base_vmid.value_or("") == testing::text(expected, "basevmid"));
    CHECK(parts->is_base == expected["isBase"].get<bool>());
    CHECK(parts->state() == (parts->is_base ? State::base : State::current));
  }
  CHECK(rows == 51);
}

TEST_CASE("we are stricter than the reference where it can only be a mistake") {
  // SPEC.md 3.2: [base-<n>-<rest>/](vm|base)-<n>-<rest>, the rest free of '/', '@' and blanks
  for (const char* text : {"-100-disk-0", "base-1-a/base-2-b/vm-3-c", "base-1-a/", "/vm-1-a", "vm-1-a b", "vm--a",
                           "vm-1", "base-1-a@s/vm-2-b", "basevm-1-a", "vm-1-\xe2\x80\xa8/x"}) {
    CAPTURE(text);
    CHECK_FALSE(parse(StorageType::rbd, text));
    CHECK_FALSE(parse(StorageType::other, text));
  }
  // A linked clone of a thin volume does not show its base, so a slash is no name there.
  CHECK_FALSE(parse(StorageType::lvmthin, "base-100-disk-0/vm-101-disk-0"));
  CHECK(parse(StorageType::iscsidirect, "lun16383"));
  for (const char* text : {"lun16384", "lun", "lun99999999999999999999", "lun+1", "lun1 "}) {
    CAPTURE(text);
    CHECK_FALSE(parse(StorageType::iscsidirect, text));
  }
  for (const char* text : {"0.0.0..", "0.0.0...", "0.0.0.a/b", "0.0.0"}) {
    CAPTURE(text);
    CHECK_FALSE(parse(StorageType::iscsi, text));
  }
}

TEST_CASE("the owner is a number when it fits") {
  CHECK(parse(StorageType::rbd, "vm-0100-x")->owner() == VmId{100});
  CHECK(parse(StorageType::rbd, "vm-9999999999999999999-x")->owner() == VmId{9999999999999999999U});
  CHECK_FALSE(parse(StorageType::rbd, "vm-99999999999999999999-x")->owner());
  CHECK_FALSE(parse(StorageType::iscsidirect, "lun1")->owner());
}

TEST_CASE("any text is a volume name or an error") {
  const auto texts = rc::gen::container<std::string>(rc::gen::elementOf(std::string{"vmbase-01l.un/@ _\xc3\n"}));
  CHECK(rc::check([&] {
    const std::string text = *texts;
    for (const StorageType type :
         {StorageType::lvmthin, StorageType::iscsi, StorageType::iscsidirect, StorageType::rbd}) {
      const auto parts = parse(type, text);
      if (!parts) continue;
      RC_ASSERT(text.ends_with(parts->name));
      if (parts->base) RC_ASSERT(*parts->base + "/" + parts->name == text);
    }
  }));
}

TEST_CASE("the next free name is the reference's") {
  for (const auto& row : testing::vectors("next_name")) {
    CAPTURE(row.dump());
    CHECK(next(row["vmid"].get<std::uint64_t>(), row["existing"].get<std::vector<std::string>>()) ==
          testing::text(row, "result"));
  }
}

TEST_CASE("a number is taken by whatever bears it") {
  // An orphaned snapshot or a volume that is being wiped blocks its number; another spelling of it does not.
  CHECK(next(100, {"snap_vm-100-disk-0_s1", "del-vm-100-disk-1"}) == "vm-100-disk-2");
  CHECK(next(100, {"vm-100-disk-00", "vm-100-disk-01"}) == "vm-100-disk-0");
  CHECK(next(100, {"vm-100-disk-", "vm-100-disk-x", "xx-100-disk-0", "vm-100-disk-99999999999999999999"}) ==
        "vm-100-disk-0");
  CHECK(next(100, {"x-100-disk-7-vm-100-disk-0"}) == "vm-100-disk-1");
  CHECK(next(1, {"vm-11-disk-0", "vm-1-disk-0"}) == "vm-1-disk-1");
}

TEST_CASE("a guest has at most 1024 numbered volumes") {
  std::vector<std::string> existing;
  for (int i = 0; i < 1023; ++i) existing.push_back("vm-100-disk-" + std::to_string(i));
  CHECK(next(100, existing) == "vm-100-disk-1023");
  existing.emplace_back("base-100-disk-1023");
  const auto name = next_free_name(VmId{100}, existing);
  REQUIRE_FALSE(name);
  CHECK(name.error().code() == Errc::no_space);
  CHECK(next(101, existing) == "vm-101-disk-0");
}

TEST_CASE("a new name is vm-, of the guest, and legal for its type") {
  const auto legal = [](StorageType type, const char* text) {
    return check_new_volume_name(type, VmId{100}, volume(text)).has_value();
  };
  for (const char* text : {"vm-100-disk-0", "vm-100-cloudinit", "vm-100-state-snap1", "vm-100-fleece-0"}) {
    CHECK(legal(StorageType::rbd, text));
    CHECK(legal(StorageType::lvmthin, text));
  }
  for (const char* text : {"base-100-disk-0", "vm-1000-disk-0", "vm-10-disk-0", "vm-0100-disk-0", "vm-100-", "disk",
                           "base-1-a/vm-100-disk-0", "vm-100-a b", "vm-100-a/b", "vm-100-a@b"}) {
    CAPTURE(text);
    CHECK_FALSE(legal(StorageType::rbd, text));
    CHECK_FALSE(legal(StorageType::lvmthin, text));
  }
  CHECK(legal(StorageType::rbd, "vm-100-a+b"));
  CHECK_FALSE(legal(StorageType::lvmthin, "vm-100-a+b"));
  CHECK_FALSE(legal(StorageType::iscsidirect, "vm-100-disk-0"));
}

TEST_CASE("a new snapshot has a name that every storage can bear") {
  const auto legal = [](const std::string& text) {
    return check_new_snapshot_name(*SnapshotName::parse(text)).has_value();
  };
  for (const std::string& text : {std::string{"s1"}, std::string{"Before-update_2"}, std::string(40, 'x')})
    CHECK(legal(text));
  for (const std::string& text :
       {std::string{"s"}, std::string{"1s"}, std::string{"_s"}, std::string{"a.b"}, std::string{"a@b"},
        std::string{"a b"}, std::string{"__base__"}, std::string(41, 'x')}) {
    CAPTURE(text);
    CHECK_FALSE(legal(text));
  }
}

TEST_CASE("a template's name and a linked clone's") {
  CHECK(template_name(volume("vm-100-disk-0")).str() == "base-100-disk-0");
  const VolumeName base = volume("base-100-disk-0");
  const VolumeName image = volume("vm-101-disk-0");
  CHECK(linked_name(StorageType::rbd, base, image).str() == "base-100-disk-0/vm-101-disk-0");
  CHECK(linked_name(StorageType::other, base, image).str() == "base-100-disk-0/vm-101-disk-0");
  CHECK(linked_name(StorageType::lvmthin, base, image) == image);
  CHECK(linked_name(StorageType::rbd, std::nullopt, image) == image);
}

TEST_CASE("names of volume groups and thin pools are the reference's") {
  for (const auto& row : testing::vectors("vgname")) {
    const std::string text = testing::text(row, "name");
    CAPTURE(text);
    CHECK(detail::is_lvm_name(text) == row["valid"].get<bool>());
  }
  CHECK_FALSE(detail::is_lvm_name("vg\n"));
}
