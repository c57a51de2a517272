# `cmake --install` of the C++ package: one component of find_package(longfold) for each target, one file each, so that
# the kernels are found where there is no torch.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(_package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/longfold")

set_target_properties(longfold_ops PROPERTIES INSTALL_RPATH "${Libtorch_FOLDERS}")
foreach(_component kernels ops)
  install(
    TARGETS longfold_${_component}
    EXPORT longfold_${_component}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILE_SET generated DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(
    EXPORT longfold_${_component}
    NAMESPACE longfold::
    FILE longfoldTargets-${_component}.cmake
    DESTINATION ${_package_folder})
endforeach()

configure_package_config_file(
  cmake/longfoldConfig.cmake.in longfoldConfig.cmake
  INSTALL_DESTINATION ${_package_folder}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(longfoldConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/longfoldConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/longfoldConfigVersion.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/FindLibtorch.cmake"
  DESTINATION ${_package_folder})
