#pragma once
// The storage whose refusals are looked at: the LUNs of a target, which can only be read and written.

#include <stowage/backends/iscsi_direct.hpp>
#include <stowage/storage.hpp>

using namespace stowage;
using LunPolicy = IscsiDirect;
using Luns = Storage<LunPolicy>;
