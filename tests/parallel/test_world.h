// The processes that a test runs in.
#pragma once

#include "longfold/parallel/world.h"

namespace longfold::parallel {

World& test_world();

}  // namespace longfold::parallel
