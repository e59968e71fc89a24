#pragma once
// The LUNs that the kernel has logged in to: like those of common.hpp, they can only be read and written.

#include <stowage/backends/open_iscsi.hpp>
#include <stowage/storage.hpp>

using namespace stowage;
using KernelLuns = Storage<OpenIscsi>;
