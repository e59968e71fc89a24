#pragma once
// The facade and all that it speaks of. A backend is included beside it, for it brings a C library:
// `#include <stowage/backends/rbd.hpp>`.

#include <stowage/core/bytes.hpp>
#include <stowage/core/error.hpp>
#include <stowage/core/handle.hpp>
#include <stowage/core/ids.hpp>
#include <stowage/core/net.hpp>
#include <stowage/core/secret.hpp>
#include <stowage/features.hpp>
#include <stowage/names.hpp>
#include <stowage/storage.hpp>
#include <stowage/volume.hpp>
