//! What kubelet asks of a device plugin.

use std::{collections::HashMap, pin::Pin};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, Device, DevicePluginOptions, Empty,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, device_plugin_server::DevicePlugin,
};

/// Offers a fixed list.
#[derive(Debug)]
pub struct Plugin {
    variable: String,
    vfs: Vec<String>,
}

impl Plugin {
    pub fn new(resource: &str, vfs: Vec<String>) -> Self {
        let name: String = resource
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        Self { variable: format!("PCIDEVICE_{name}"), vfs }
    }

    fn allocate(&self, request: AllocateRequest) -> Result<AllocateResponse, Status> {
        let mut container_responses = Vec::new();
        for container in request.container_requests {
            if let Some(foreign) = container.device_ids.iter().find(|id| !self.vfs.contains(id)) {
                return Err(Status::not_found(format!("{foreign} is none of ours")));
            }
            let envs = HashMap::from([(self.variable.clone(), container.device_ids.join(","))]);
            container_responses.push(ContainerAllocateResponse { envs });
        }
        Ok(AllocateResponse { container_responses })
    }
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    /// The list once, and then silence: the end of the stream would tell kubelet that the devices are gone.
    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let devices =
            self.vfs.iter().map(|id| Device { id: id.clone(), health: "Healthy".to_owned() }).collect();
        let once = tokio_stream::once(Ok(ListAndWatchResponse { devices }));
        Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("not among the options"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        self.allocate(request.into_inner()).map(Response::new)
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("not among the options"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::v1beta1::ContainerAllocateRequest;

    #[test]
    fn a_container_learns_its_devices_and_no_foreign_one_is_given() {
        let plugin = Plugin::new("drawbridge.dev/vf", vec!["1001:03:00.1".into(), "1001:03:00.2".into()]);
        let asking = |ids: &[&str]| AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                device_ids: ids.iter().map(ToString::to_string).collect(),
            }],
        };
        let answer = plugin.allocate(asking(&["1001:03:00.1", "1001:03:00.2"])).unwrap();
        assert_eq!(
            answer.container_responses[0].envs["PCIDEVICE_DRAWBRIDGE_DEV_VF"],
            "1001:03:00.1,1001:03:00.2"
        );
        assert!(plugin.allocate(asking(&["1002:03:00.1"])).is_err());
    }
}
