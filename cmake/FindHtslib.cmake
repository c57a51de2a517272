# Finds htslib, whose Debian package (libhts-dev) brings no CMake file. Defines htslib::htslib.
find_path(Htslib_INCLUDE_DIR htslib/bgzf.h)
find_library(Htslib_LIBRARY hts)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  Htslib
  REQUIRED_VARS Htslib_LIBRARY Htslib_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run `make setup`, or install libhts-dev or your system's name for it")
if(Htslib_FOUND AND NOT TARGET htslib::htslib)
  add_library(htslib::htslib UNKNOWN IMPORTED)
  set_target_properties(htslib::htslib PROPERTIES IMPORTED_LOCATION "${Htslib_LIBRARY}")
  target_include_directories(htslib::htslib SYSTEM INTERFACE "${Htslib_INCLUDE_DIR}")
endif()
mark_as_advanced(Htslib_INCLUDE_DIR Htslib_LIBRARY)
