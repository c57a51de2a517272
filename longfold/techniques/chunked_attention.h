// Attention a chunk of queries and a chunk of keys at a time (FPDT, Yao et al. 2024, on one device): neither queries,
// keys and values of all tokens nor their gradients are on the device. They wait on a shelf, and are found again from x
// in backward. Each chunk of queries takes its keys from its own chunk back to the first; results merge by
// log-sum-exp, in fp32.
//
// Backward goes by chunks of keys, in order, and by the chunks of queries that see them: so what waits is queries and
// the sums of their gradients (fp32), read and written once a pair of chunks, and not keys, values and both their sums.
#pragma once

#include <cstdint>
#include <memory>

#include "longfold/techniques/pieces.h"
#include "longfold/techniques/shelf.h"

namespace longfold::techniques {

[[nodiscard]] std::shared_ptr<const AttendPiece> attend_by_chunks(const model::BlockParts& block, int64_t chunk_tokens,
                                                                  std::shared_ptr<Shelf> shelf);

}  // namespace longfold::techniques
