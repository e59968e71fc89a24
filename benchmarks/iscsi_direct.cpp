// IscsiDirect against `iscsi-ls -s` and a bare, pipelined libiscsi loop: listing the LUNs of a target.
// usage: bench_iscsi_direct PORTAL TARGET

#include <poll.h>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/storage.hpp>
#include <string>
#include <vector>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "paired.hpp"

using namespace stowage;

namespace {

/// The loop that a good programmer writes against libiscsi: one login, REPORT LUNS, and for all LUNs at once standard
/// INQUIRY, VPD 0x83 and READ CAPACITY(16), then VPD 0x80 for the disks that VPD 0x83 has not named. To the byte what
/// ours asks for.
class BareListing {
 public:
  BareListing(const std::string& portal, const std::string& target)
      : context_{::iscsi_create_context("iqn.2026-11.lab:bench")} {
    ::iscsi_set_targetname(context_, target.c_str());
    ::iscsi_set_session_type(context_, ISCSI_SESSION_NORMAL);
    ::iscsi_set_noautoreconnect(context_, 1);
    bench::must(::iscsi_full_connect_async(context_, portal.c_str(), -1, &BareListing::on_connected, this), "connect");
    ++open_;
    run();
  }
  BareListing(const BareListing&) = delete;
  BareListing& operator=(const BareListing&) = delete;
  ~BareListing() { ::iscsi_destroy_context(context_); }

  /// The disks found.
  std::size_t list() {
    luns_.clear();
    if (::iscsi_reportluns_task(context_, 0, 4096, &BareListing::on_luns, this) == nullptr) bench::die("REPORT LUNS");
    ++open_;
    run();
    for (Lun& lun : luns_) {
      ask(lun, Question::inquiry);
      ask(lun, Question::identity);
      ask(lun, Question::capacity);
    }
    run();
    std::size_t disks = 0;
    for (Lun& lun : luns_) {
      disks += lun.disk ? 1 : 0;
      if (lun.disk && !lun.named) ask(lun, Question::serial);
    }
    run();
    return disks;
  }

 private:
  enum class Question { inquiry, identity, serial, capacity };
  struct Lun {
    int number = 0;
    bool disk = false;
    bool named = false;
  };
  struct Asked {
    BareListing* self;
    Lun* lun;
    Question what;
  };
  static constexpr int page_room = 0x3fc;

  void ask(Lun& lun, Question what) {
    auto* asked = new Asked{this, &lun, what};
    ::scsi_task* task = nullptr;
    switch (what) {
      case Question::inquiry:
        task = ::iscsi_inquiry_task(context_, lun.number, 0, 0, 96, &BareListing::on_answer, asked);
        break;
      case Question::identity:
        task = ::iscsi_inquiry_task(context_, lun.number, 1, SCSI_INQUIRY_PAGECODE_DEVICE_IDENTIFICATION, page_room,
                                    &BareListing::on_answer, asked);
        break;
      case Question::serial:
        task = ::iscsi_inquiry_task(context_, lun.number, 1, SCSI_INQUIRY_PAGECODE_UNIT_SERIAL_NUMBER, page_room,
                                    &BareListing::on_answer, asked);
        break;
      case Question::capacity:
        task = ::iscsi_readcapacity16_task(context_, lun.number, &BareListing::on_answer, asked);
        break;
    }
    if (task == nullptr) bench::die("libiscsi takes no more commands");
    ++open_;
  }

  static void on_connected(::iscsi_context*, int status, void*, void* self) {
    if (status != SCSI_STATUS_GOOD) bench::die("login refused");
    --static_cast<BareListing*>(self)->open_;
  }

  static void on_luns(::iscsi_context*, int status, void* data, void* self) {
    auto* task = static_cast<::scsi_task*>(data);
    if (status != SCSI_STATUS_GOOD) bench::die("REPORT LUNS failed");
    auto* me = static_cast<BareListing*>(self);
    const auto* list = static_cast<::scsi_reportluns_list*>(::scsi_datain_unmarshall(task));
    for (std::uint32_t i = 0; i < list->num; ++i) me->luns_.push_back({.number = list->luns[i]});
    ::scsi_free_scsi_task(task);
    --me->open_;
  }

  static void on_answer(::iscsi_context*, int status, void* data, void* pointer) {
    auto* task = static_cast<::scsi_task*>(data);
    auto* asked = static_cast<Asked*>(pointer);
    BareListing* me = asked->self;
    if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION) {
      me->ask(*asked->lun, asked->what);  // every LUN of a new session says so once
    } else if (asked->what == Question::inquiry && status == SCSI_STATUS_GOOD) {
      const auto* inquiry = static_cast<::scsi_inquiry_standard*>(::scsi_datain_unmarshall(task));
      asked->lun->disk = inquiry->device_type == SCSI_INQUIRY_PERIPHERAL_DEVICE_TYPE_DIRECT_ACCESS;
    } else if (asked->what == Question::identity && status == SCSI_STATUS_GOOD) {
      const auto* page = static_cast<::scsi_inquiry_device_identification*>(::scsi_datain_unmarshall(task));
      for (const auto* id = page->designators; id != nullptr; id = id->next) {
        const bool of_the_lun = id->association == SCSI_ASSOCIATION_LOGICAL_UNIT;
        if (of_the_lun && id->designator_type <= SCSI_DESIGNATOR_TYPE_NAA) asked->lun->named = true;
      }
    } else if (status == SCSI_STATUS_GOOD) {
      static_cast<void>(::scsi_datain_unmarshall(task));
    }
    ::scsi_free_scsi_task(task);
    delete asked;
    --me->open_;
  }

  void run() {
    while (open_ > 0) {
      ::pollfd poll{::iscsi_get_fd(context_), static_cast<short>(::iscsi_which_events(context_)), 0};
      ::poll(&poll, 1, 1000);
      bench::must(::iscsi_service(context_, poll.revents), "iscsi_service");
    }
  }

  ::iscsi_context* context_;
  std::vector<Lun> luns_;
  std::size_t open_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) bench::die("usage: bench_iscsi_direct PORTAL TARGET");
  constexpr std::size_t pairs = 21;
  const std::string portal = argv[1];
  const std::string target = argv[2];
  const IscsiDirectConfig config{.portal = *Portal::parse(portal), .target = *Iqn::parse(target)};
  auto storage = bench::must(Storage<IscsiDirect>::open(*StorageId::parse("bench"), config), "open");
  BareListing bare{portal, target};

  const std::size_t luns = bench::must(storage.list(), "list").size();
  if (luns != bare.list()) bench::die("the two lists differ");
  const std::string work = "list " + std::to_string(luns) + " LUNs";

  bench::print_header();
  bench::print_row(
      (work + ", session open").c_str(), "bare libiscsi, pipelined",
      bench::paired(
          pairs, [&] { return bench::seconds([&] { static_cast<void>(bench::must(storage.list(), "list")); }); },
          [&] { return bench::seconds([&] { static_cast<void>(bare.list()); }); }),
      bench::at_most(1.05));
  const auto with_login = [&] {
    return bench::seconds([&] {
      const auto once = bench::must(Storage<IscsiDirect>::open(*StorageId::parse("again"), config), "open");
      static_cast<void>(bench::must(once.list(), "list"));
    });
  };
  bench::print_row((work + ", with login").c_str(), "bare libiscsi, pipelined",
                   bench::paired(pairs, with_login,
                                 [&] {
                                   return bench::seconds([&] {
                                     BareListing once{portal, target};
                                     static_cast<void>(once.list());
                                   });
                                 }),
                   bench::at_most(1.05));
  bench::print_row(
      (work + ", with login").c_str(), "`iscsi-ls -s`", bench::paired(9, with_login, [&] {
        return bench::seconds([&] { bench::run_command({"/usr/bin/iscsi-ls", "-s", "iscsi://" + portal}); });
      }));
  return 0;
}
